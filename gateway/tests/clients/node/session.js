// What both Node clients do in their sessions; test_node.py starts the gateway and says where it is.
'use strict';
const { z } = require('zod');

exports.baseURL = process.env.REPRISE_BASE_URL;
exports.key = process.env.REPRISE_KEY;
exports.model = process.env.REPRISE_MODEL;
exports.embedder = process.env.REPRISE_EMBEDDER;

exports.CAPITAL = 'What is the capital of Germany?';
exports.WEATHER = 'What is the weather in Berlin?';
exports.REPORT = 'It is 17 degrees and raining in Berlin.';
exports.PERSON = 'Make up a person, as JSON.';
exports.TOO_LONG = 'word '.repeat(100000);
// Answers that are compared must come of one prompt: no example may enter it.
exports.PLAIN = { 'x-reprise-max-examples': '0' };

// Bounded: a grammar makes an answer valid, but no grammar makes a small model come to an end.
exports.Person = z.object({
  name: z.string().max(20),
  age: z.number().int().min(0).max(130),
  pet: z.enum(['cat', 'dog']).nullable(),
});
exports.Place = z.object({ city: z.string().max(20), unit: z.enum(['celsius', 'fahrenheit']) });

exports.tellsTheWeather = (text) => text.includes('17') || text.includes('rain');
