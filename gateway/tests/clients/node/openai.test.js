// OpenAI's own SDK for Node.
'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');
const OpenAI = require('openai');
const { zodResponseFormat, zodFunction } = require('openai/helpers/zod');
const { baseURL, key, model, embedder, PLAIN, CAPITAL, WEATHER, REPORT, PERSON, TOO_LONG, Person, Place, tellsTheWeather } = require('./session.js');

const make = (apiKey) => new OpenAI({ baseURL, apiKey, maxRetries: 0, defaultHeaders: PLAIN });
const client = make(key);
const chat = client.chat.completions;
const fields = { model, temperature: 0, max_tokens: 200 };
const user = (content) => [{ role: 'user', content }];
const tool = zodFunction({ name: 'get_weather', description: 'The weather of a city', parameters: Place });

test('chat', async () => {
  const answer = await chat.create({ ...fields, messages: user(CAPITAL) });
  assert.match(answer.choices[0].message.content, /Berlin/);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer._request_id);
});

test('an exact repeat is streamed alike, with its usage', async () => {
  const ask = { ...fields, messages: user(CAPITAL), max_tokens: 105 };
  const first = await chat.create(ask).withResponse();
  assert.equal(first.response.headers.get('x-reprise-cache'), 'MISS');
  const again = await chat.create({ ...ask, stream: true, stream_options: { include_usage: true } }).withResponse();
  assert.equal(again.response.headers.get('x-reprise-cache'), 'HIT');
  let text = '';
  let usage;
  for await (const chunk of again.data) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, first.data.choices[0].message.content);
  assert.equal(usage.completion_tokens, first.data.usage.completion_tokens);
});

test('the stream helper', async () => {
  const stream = chat.stream({ ...fields, messages: user('Name three colours, Node.'), stream_options: { include_usage: true } });
  let deltas = 0;
  stream.on('content', () => (deltas += 1));
  const whole = await stream.finalChatCompletion();
  assert.ok(deltas > 3, 'it comes in parts');
  assert.ok(whole.usage.completion_tokens > 3);
});

test('a stream that is left frees the connection for the next', async () => {
  const stream = await chat.create({ model, messages: user('Write a very long story.'), max_tokens: 4000, stream: true });
  for await (const _chunk of stream) break;
  assert.match((await chat.create({ ...fields, messages: user(CAPITAL) })).choices[0].message.content, /Berlin/);
});

test('several turns', async () => {
  const turns = [
    { role: 'system', content: 'Be brief.' }, ...user(CAPITAL), { role: 'assistant', content: 'Berlin.' },
    { role: 'user', content: [{ type: 'text', text: 'Which river flows through it?' }] },
  ];
  const alone = await chat.create({ ...fields, messages: [turns[0], turns[3]] });
  const answer = await chat.create({ ...fields, messages: turns });
  assert.ok(answer.choices[0].message.content);
  assert.ok(answer.usage.prompt_tokens > alone.usage.prompt_tokens);
});

for (const choice of ['required', { type: 'function', function: { name: 'get_weather' } }]) {
  test(`a tool is called and answered: ${JSON.stringify(choice)}`, async () => {
    const called = await chat.parse({ ...fields, messages: user(WEATHER), tools: [tool], tool_choice: choice, parallel_tool_calls: false });
    assert.equal(called.choices[0].finish_reason, 'tool_calls');
    const message = called.choices[0].message;
    assert.equal(message.tool_calls.length, 1);
    Place.parse(message.tool_calls[0].function.parsed_arguments);
    const turns = [...user(WEATHER), message, { role: 'tool', tool_call_id: message.tool_calls[0].id, content: REPORT }];
    const answer = await chat.create({ ...fields, messages: turns, tools: [tool], tool_choice: 'none' });
    assert.ok(tellsTheWeather(answer.choices[0].message.content));
  });
}

test('a streamed call is put together', async () => {
  const stream = chat.stream({ ...fields, messages: user(WEATHER), tools: [tool], tool_choice: 'required', parallel_tool_calls: false });
  let pieces = 0;
  stream.on('tool_calls.function.arguments.delta', () => (pieces += 1));
  const whole = await stream.finalChatCompletion();
  Place.parse(JSON.parse(whole.choices[0].message.tool_calls[0].function.arguments));
  assert.ok(pieces > 3, 'the arguments come in parts');
});

test('structured output', async () => {
  const answer = await chat.parse({ ...fields, messages: user(PERSON), response_format: zodResponseFormat(Person, 'person') });
  Person.parse(answer.choices[0].message.parsed);
});

test('errors have their types', async () => {
  const bad = async (call, kind, code, param) => {
    const error = await call.then(() => assert.fail('it was answered'), (error) => error);
    assert.ok(error instanceof kind, String(error));
    if (code) assert.equal(error.code, code);
    if (param) assert.equal(error.param, param);
  };
  await bad(make('guess').chat.completions.create({ ...fields, messages: user(CAPITAL) }), OpenAI.AuthenticationError, 'invalid_api_key');
  await bad(chat.create({ ...fields, model: 'gpt-99', messages: user(CAPITAL) }), OpenAI.NotFoundError, 'model_not_found');
  await bad(chat.create({ ...fields, temperature: 9, messages: user(CAPITAL) }), OpenAI.BadRequestError, null, 'temperature');
  await bad(chat.create({ ...fields, messages: user(TOO_LONG), stream: true }), OpenAI.BadRequestError, 'context_length_exceeded');
});

test('embeddings', async () => {
  // This SDK asks for base64 and decodes it.
  const answer = await client.embeddings.create({ model: embedder, input: ['A cat sleeps.', 'Interest rates rose.'] });
  assert.deepEqual(answer.data.map((item) => item.embedding.length), [384, 384]);
  const length = Math.hypot(...answer.data[0].embedding);
  assert.ok(Math.abs(length - 1) < 1e-3, `a unit vector: ${length}`);
});

test('responses', async () => {
  const answer = await client.responses.create({ model, input: CAPITAL, temperature: 0, max_output_tokens: 48 });
  assert.match(answer.output_text, /Berlin/);
  const stream = client.responses.stream({ model, input: CAPITAL, temperature: 0, max_output_tokens: 48 });
  assert.match((await stream.finalResponse()).output_text, /Berlin/);
});

test('models', async () => {
  const models = [];
  for await (const one of client.models.list()) models.push(one.id);
  assert.ok(models.includes('auto') && models.includes(model));
});
