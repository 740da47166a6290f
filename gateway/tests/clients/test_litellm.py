"""litellm as a client: its exceptions, stream builder, structured output and embeddings."""

from __future__ import annotations

import asyncio
import json

import litellm
import pytest
from session import CAPITAL, DIMENSIONS, EMBEDDER, KEY, MODEL, PERSON, PLAIN, REPORT, TOO_LONG, WEATHER, Person, Place, tells_the_weather

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": Place.model_json_schema()}}]


@pytest.fixture
def ours(base_url):
    return {"api_base": base_url, "api_key": KEY, "max_retries": 0}


@pytest.fixture
def fields(ours):
    return ours | {"model": f"openai/{MODEL}", "temperature": 0, "max_tokens": 200, "extra_headers": PLAIN}


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def test_chat(fields):
    answer = litellm.completion(**fields, messages=user(CAPITAL))
    assert "Berlin" in answer.choices[0].message.content and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_an_exact_repeat_is_streamed_alike_with_its_usage(fields):
    ask = fields | {"messages": user(CAPITAL), "max_tokens": 102}
    first = litellm.completion(**ask)
    stream = litellm.completion(**ask, stream=True, stream_options={"include_usage": True})
    assert stream._hidden_params["additional_headers"]["llm_provider-x-reprise-cache"] == "HIT"
    whole = litellm.stream_chunk_builder(list(stream))
    assert whole.choices[0].message.content == first.choices[0].message.content
    assert whole.usage.completion_tokens == first.usage.completion_tokens


def test_stream(fields):
    chunks = list(litellm.completion(**fields, messages=user("Name three colours, litellm."), stream=True, stream_options={"include_usage": True}))
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3, "it comes in parts"
    whole = litellm.stream_chunk_builder(chunks)
    assert whole.choices[0].finish_reason in ("stop", "length") and whole.usage.completion_tokens > 3


def test_many_at_once(fields):
    async def ask() -> list[str]:
        answers = await asyncio.gather(*(litellm.acompletion(**fields, messages=user(CAPITAL)) for _ in range(4)))
        return [answer.choices[0].message.content for answer in answers]

    assert len(set(asyncio.run(ask()))) == 1


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_is_called_and_answered(fields, choice):
    called = litellm.completion(**fields, messages=user(WEATHER), tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
    assert called.choices[0].finish_reason == "tool_calls"
    message = called.choices[0].message
    [call] = message.tool_calls
    assert call.function.name == "get_weather"
    Place.model_validate_json(call.function.arguments)
    # The client sends its own object back as the turn that it was.
    turns = [*user(WEATHER), message.model_dump(), {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": REPORT}]
    answer = litellm.completion(**fields, messages=turns, tools=TOOLS, tool_choice="none")
    assert tells_the_weather(answer.choices[0].message.content)


def test_a_streamed_call_is_put_together(fields):
    chunks = list(litellm.completion(**fields, messages=user(WEATHER), tools=TOOLS, tool_choice="required", parallel_tool_calls=False, stream=True))
    whole = litellm.stream_chunk_builder(chunks)
    [call] = whole.choices[0].message.tool_calls
    Place.model_validate_json(call.function.arguments)
    assert whole.choices[0].finish_reason == "tool_calls"


def test_structured_output(fields):
    answer = litellm.completion(**fields, messages=user(PERSON), response_format=Person)
    Person.model_validate_json(answer.choices[0].message.content)
    answer = litellm.completion(**fields | {"max_tokens": 400}, messages=user("A colour and its code"), response_format={"type": "json_object"})
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_errors_have_their_types(fields):
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(**fields | {"api_key": "guess"}, messages=user(CAPITAL))
    with pytest.raises(litellm.NotFoundError) as refused:
        litellm.completion(**fields | {"model": "openai/gpt-99"}, messages=user(CAPITAL))
    assert "gpt-99" in str(refused.value)
    with pytest.raises(litellm.BadRequestError) as refused:
        litellm.completion(**fields | {"temperature": 9}, messages=user(CAPITAL))
    assert "temperature" in str(refused.value)
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**fields, messages=user(TOO_LONG), stream=True)


def test_embeddings(ours):
    answer = litellm.embedding(**ours, model=f"openai/{EMBEDDER}", input=["A cat sleeps.", "Interest rates rose."])
    assert [len(item["embedding"]) for item in answer.data] == [DIMENSIONS, DIMENSIONS]
    assert answer.usage.prompt_tokens > 0


def test_responses(ours):
    answer = litellm.responses(**ours, model=f"openai/{MODEL}", input=CAPITAL, temperature=0, max_output_tokens=48)
    assert "Berlin" in answer.output[-1].content[0].text
    assert answer.usage.output_tokens > 0
