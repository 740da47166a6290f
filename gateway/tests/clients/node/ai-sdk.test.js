// Vercel's AI SDK through its provider for OpenAI-compatible servers.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');
const ai = require('ai');
const { createOpenAICompatible } = require('@ai-sdk/openai-compatible');
const { baseURL, key, model, embedder, PLAIN, CAPITAL, WEATHER, REPORT, PERSON, TOO_LONG, Person, Place, tellsTheWeather } = require('./session.js');

const make = (apiKey) =>
  createOpenAICompatible({ name: 'reprise', baseURL, apiKey, headers: PLAIN, includeUsage: true, supportsStructuredOutputs: true });
const reprise = make(key);
const fields = { model: reprise(model), temperature: 0, maxOutputTokens: 200, maxRetries: 0 };

test('chat', async () => {
  const answer = await ai.generateText({ ...fields, prompt: CAPITAL });
  assert.match(answer.text, /Berlin/);
  assert.equal(answer.finishReason, 'stop');
  assert.ok(answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0);
});

test('an exact repeat is streamed alike, with its usage', async () => {
  const ask = { ...fields, prompt: CAPITAL, maxOutputTokens: 106 };
  const first = await ai.generateText(ask);
  assert.equal(first.response.headers['x-reprise-cache'], 'MISS');
  const again = ai.streamText(ask);
  let text = '';
  for await (const piece of again.textStream) text += piece;
  assert.equal((await again.response).headers['x-reprise-cache'], 'HIT');
  assert.equal(text, first.text);
  assert.equal((await again.usage).outputTokens, first.usage.outputTokens);
});

test('a stream', async () => {
  const stream = ai.streamText({ ...fields, prompt: 'Name three colours, Vercel.' });
  let pieces = 0;
  for await (const _piece of stream.textStream) pieces += 1;
  assert.ok(pieces > 3, 'it comes in parts');
  assert.ok((await stream.usage).outputTokens > 3);
});

test('several turns', async () => {
  const messages = [
    { role: 'user', content: CAPITAL }, { role: 'assistant', content: 'Berlin.' },
    { role: 'user', content: 'Which river flows through it?' },
  ];
  const alone = await ai.generateText({ ...fields, instructions: 'Be brief.', messages: messages.slice(2) });
  const answer = await ai.generateText({ ...fields, instructions: 'Be brief.', messages });
  assert.ok(answer.text && answer.usage.inputTokens > alone.usage.inputTokens);
});

const get_weather = () => {
  const asked = [];
  const execute = async (place) => {
    asked.push(place);
    return REPORT;
  };
  return [asked, ai.tool({ description: 'The weather of a city', inputSchema: Place, execute })];
};

for (const toolChoice of ['required', { type: 'tool', toolName: 'get_weather' }]) {
  test(`a tool is called and answered in two steps: ${JSON.stringify(toolChoice)}`, async () => {
    const [asked, tool] = get_weather();
    const answer = await ai.generateText({
      ...fields, prompt: WEATHER, tools: { get_weather: tool }, stopWhen: ai.isStepCount(2),
      providerOptions: { reprise: { parallel_tool_calls: false } },
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? toolChoice : 'none' }),
    });
    assert.equal(answer.steps.length, 2);
    assert.equal(answer.steps[0].finishReason, 'tool-calls');
    assert.equal(asked.length, 1);
    Place.parse(asked[0]);
    assert.ok(tellsTheWeather(answer.text), answer.text);
  });
}

test('a streamed call is put together and carried out', async () => {
  const [asked, tool] = get_weather();
  const stream = ai.streamText({
    ...fields, prompt: WEATHER, tools: { get_weather: tool }, toolChoice: 'required', providerOptions: { reprise: { parallel_tool_calls: false } },
  });
  const calls = await stream.toolCalls;
  assert.equal(calls.length, 1);
  Place.parse(calls[0].input);
  assert.equal((await stream.toolResults)[0].output, REPORT);
  assert.equal(asked.length, 1);
});

test('structured output, whole and in parts', async () => {
  const ask = { ...fields, prompt: PERSON, output: ai.Output.object({ schema: Person }) };
  Person.parse((await ai.generateText(ask)).output);
  const stream = ai.streamText({ ...ask, temperature: 1, seed: 3 });
  let parts = 0;
  for await (const _part of stream.partialOutputStream) parts += 1;
  assert.ok(parts > 2, 'it comes in parts');
  Person.parse(await stream.output);
});

test('errors have their status and body', async () => {
  const bad = async (more, status, code, param) => {
    const error = await ai.generateText({ ...fields, prompt: CAPITAL, ...more }).then(() => assert.fail('it was answered'), (error) => error);
    assert.ok(ai.APICallError.isInstance(error), String(error));
    assert.equal(error.statusCode, status);
    const told = JSON.parse(error.responseBody).error;
    assert.equal(error.message, told.message);
    assert.deepEqual([told.code, told.param], [code, param]);
    assert.equal(error.isRetryable, false);
  };
  await bad({ model: make('guess')(model) }, 401, 'invalid_api_key', null);
  await bad({ model: reprise('gpt-99') }, 404, 'model_not_found', 'model');
  await bad({ temperature: 9 }, 400, 'invalid_value', 'temperature');
  await bad({ prompt: TOO_LONG }, 400, 'context_length_exceeded', 'messages');
});

test('embeddings', async () => {
  const { embeddings, usage } = await ai.embedMany({
    model: reprise.embeddingModel(embedder), values: ['A cat sleeps.', 'A kitten is asleep.', 'Interest rates rose.'], maxRetries: 0,
  });
  assert.equal(embeddings[0].length, 384);
  assert.ok(ai.cosineSimilarity(embeddings[0], embeddings[1]) > ai.cosineSimilarity(embeddings[0], embeddings[2]) + 0.2);
  assert.ok(usage.tokens > 0);
});
