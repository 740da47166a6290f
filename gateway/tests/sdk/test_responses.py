"""/v1/responses: stored answers that a conversation goes on from."""

from __future__ import annotations

import json

import openai
import pydantic
import pytest
from schemas import SCHEMAS
from test_openai_sdk import PLAIN
from test_tools import WEATHER

FIELDS = {"model": "small", "temperature": 0, "max_output_tokens": 48, "extra_headers": PLAIN}
CAPITAL = "What is the capital of Germany?"


def test_text(client):
    response = client.responses.create(**FIELDS, input=CAPITAL, instructions="You are a helpful assistant.")
    assert "Berlin" in response.output_text
    assert (response.status, response.object, response.instructions) == ("completed", "response", "You are a helpful assistant.")
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.output[0].role == "assistant" and response.output[0].content[0].annotations == []


def test_it_is_stored_and_goes_on(client):
    first = client.responses.create(**FIELDS, input="My name is Bartholomew.", metadata={"a": "b"})
    second = client.responses.create(**FIELDS, input="What is my name?", previous_response_id=first.id)
    assert "Bartholomew" in second.output_text
    assert second.usage.input_tokens > first.usage.input_tokens
    got = client.responses.retrieve(second.id)
    assert (got.output_text, got.previous_response_id) == (second.output_text, first.id)
    items = client.responses.input_items.list(second.id)
    assert items.data[0].role == "user"
    assert client.responses.retrieve(first.id).metadata == {"a": "b"}
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**FIELDS, input="And now?", previous_response_id=second.id)
    assert caught.value.param == "previous_response_id"


def test_what_is_not_to_be_stored_is_not(client):
    response = client.responses.create(**FIELDS, input=CAPITAL, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_streamed_it_is_the_same(client):
    whole = client.responses.create(**FIELDS, input=CAPITAL)
    text, kinds, final = "", [], None
    for number, event in enumerate(client.responses.create(**FIELDS, input=CAPITAL, stream=True)):
        assert event.sequence_number == number
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.completed":
            final = event.response
    assert text == whole.output_text == final.output_text
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert client.responses.retrieve(final.id).output_text == text
    with client.responses.stream(**FIELDS, input=CAPITAL) as stream:
        assert stream.get_final_response().output_text == text


def test_an_end_before_its_time(client):
    response = client.responses.create(**FIELDS | {"max_output_tokens": 3}, input="Count from one to twenty in words.")
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_a_form(client):
    schema = SCHEMAS["sentiment"]
    format = {"type": "json_schema", "name": "sentiment", "schema": schema, "strict": True}
    response = client.responses.create(**FIELDS, input="I love it.", text={"format": format})
    assert json.loads(response.output_text)["sentiment"] in ("positive", "neutral", "negative")

    class Pet(pydantic.BaseModel):
        species: str = pydantic.Field(max_length=10)
        age: int = pydantic.Field(ge=0, le=30)

    assert isinstance(client.responses.parse(**FIELDS, input="A dog of three years.", text_format=Pet).output_parsed, Pet)


def test_a_call_its_result_and_the_answer(client):
    tools = [{"type": "function", "name": "get_weather", "description": "The weather of a city", "parameters": WEATHER, "strict": True}]
    fields = FIELDS | {"max_output_tokens": 200, "tools": tools}
    first = client.responses.create(**fields, input="What is the weather in Berlin?", tool_choice="required", parallel_tool_calls=False)
    call = first.output[0]
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    assert json.loads(call.arguments)["unit"] in ("celsius", "fahrenheit")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "It is 17 degrees and raining."}
    second = client.responses.create(**fields, input=[result], previous_response_id=first.id, tool_choice="none")
    assert second.output_text
    arguments, final = "", None
    for event in client.responses.create(**fields, input="What is the weather in Berlin?", tool_choice="required", parallel_tool_calls=False, stream=True):
        if event.type == "response.function_call_arguments.delta":
            arguments += event.delta
        elif event.type == "response.completed":
            final = event.response
    assert arguments == call.arguments == final.output[0].arguments


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("background", {"background": True}), ("truncation", {"truncation": "auto"}), ("input", {"input": []}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}), ("temperature", {"temperature": 9}),
        ("max_output_tokens", {"max_output_tokens": 0}), ("previous_response_id", {"previous_response_id": "resp_none"}),
        ("text.format", {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "array", "uniqueItems": True}}}}),
        ("reasoning.effort", {"reasoning": {"effort": "low"}}), ("input[0].type", {"input": [{"type": "web_search_call", "id": "x", "status": "completed"}]}),
    ],
)
def test_what_is_wrong_is_named(client, param, fields):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**({"model": "small", "input": CAPITAL} | fields))
    assert caught.value.param == param
