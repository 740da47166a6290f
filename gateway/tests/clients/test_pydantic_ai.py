"""pydantic-ai: agents with output types and tools, single requests, streams, errors, embeddings."""

from __future__ import annotations

import pytest
from pydantic_ai import Agent, Embedder, NativeOutput, ToolOutput
from pydantic_ai.direct import model_request_stream_sync, model_request_sync
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelRequest, ToolCallPart, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from session import CAPITAL, DIMENSIONS, EMBEDDER, KEY, MODEL, PERSON, PLAIN, REPORT, TOO_LONG, WEATHER, Person, Place, tells_the_weather

SETTINGS = ModelSettings(temperature=0, max_tokens=200, extra_headers=PLAIN)
GET_WEATHER = ToolDefinition(name="get_weather", description="The weather of a city", parameters_json_schema=Place.model_json_schema())


@pytest.fixture
def model(base_url):
    return lambda name=MODEL, key=KEY: OpenAIChatModel(name, provider=OpenAIProvider(base_url=base_url, api_key=key))


def test_chat_and_several_turns(model):
    agent = Agent(model(), instructions="Be brief.", model_settings=SETTINGS)
    first = agent.run_sync(CAPITAL)
    assert "Berlin" in first.output
    assert first.usage.input_tokens > 0 and first.usage.output_tokens > 0
    second = agent.run_sync("Which river flows through it?", message_history=first.all_messages())
    assert second.output and second.usage.input_tokens > first.usage.input_tokens


def test_an_exact_repeat_is_streamed_alike_with_its_usage(model):
    agent = Agent(model(), model_settings=SETTINGS | ModelSettings(max_tokens=103))
    first = agent.run_sync(CAPITAL)
    with agent.run_stream_sync(CAPITAL) as run:
        pieces = list(run.stream_text(delta=True, debounce_by=None))
    assert "".join(pieces) == first.output
    assert run.usage.output_tokens == first.usage.output_tokens


def test_stream(model):
    agent = Agent(model(), model_settings=SETTINGS)
    with agent.run_stream_sync("Name three colours, pydantic.") as run:
        pieces = list(run.stream_text(delta=True, debounce_by=None))
    assert len(pieces) > 3 and "".join(pieces).strip(), "it comes in parts"
    assert run.usage.output_tokens > 3


@pytest.mark.parametrize("choice", ["required", ["get_weather"]])
def test_a_tool_is_called_and_answered(model, choice):
    turns = [ModelRequest.user_text_prompt(WEATHER)]
    parameters = ModelRequestParameters(function_tools=[GET_WEATHER])
    must = SETTINGS | ModelSettings(tool_choice=choice, parallel_tool_calls=False)
    called = model_request_sync(model(), turns, model_settings=must, model_request_parameters=parameters)
    assert called.finish_reason == "tool_call"
    [call] = [part for part in called.parts if isinstance(part, ToolCallPart)]
    Place.model_validate(call.args_as_dict())
    result = ModelRequest(parts=[ToolReturnPart(tool_name=call.tool_name, content=REPORT, tool_call_id=call.tool_call_id)])
    told = SETTINGS | ModelSettings(tool_choice="none")
    answer = model_request_sync(model(), [*turns, called, result], model_settings=told, model_request_parameters=parameters)
    assert tells_the_weather(answer.text)


def test_a_streamed_call_is_put_together(model):
    parameters = ModelRequestParameters(function_tools=[GET_WEATHER])
    must = SETTINGS | ModelSettings(tool_choice="required", parallel_tool_calls=False)
    turns = [ModelRequest.user_text_prompt(WEATHER)]
    with model_request_stream_sync(model(), turns, model_settings=must, model_request_parameters=parameters) as stream:
        pieces = list(stream)
        whole = stream.response
    [call] = [part for part in whole.parts if isinstance(part, ToolCallPart)]
    Place.model_validate(call.args_as_dict())
    assert len(pieces) > 3 and whole.usage.output_tokens > 0


@pytest.mark.parametrize("output", [NativeOutput, ToolOutput])
def test_structured_output(model, output):
    agent = Agent(model(), output_type=output(Person), model_settings=SETTINGS)
    assert isinstance(agent.run_sync(PERSON).output, Person)


def test_errors_have_their_status_and_body(model):
    for name, key, settings, prompt, status, code in [
        (MODEL, "guess", {}, CAPITAL, 401, "invalid_api_key"),
        ("gpt-99", KEY, {}, CAPITAL, 404, "model_not_found"),
        (MODEL, KEY, {"temperature": 9}, CAPITAL, 400, "invalid_value"),
        (MODEL, KEY, {}, TOO_LONG, 400, "context_length_exceeded"),
    ]:
        with pytest.raises(ModelHTTPError) as refused:
            Agent(model(name, key), model_settings=SETTINGS | settings).run_sync(prompt)
        assert (refused.value.status_code, refused.value.body["code"]) == (status, code)


def test_embeddings(base_url):
    provider = OpenAIProvider(base_url=base_url, api_key=KEY)
    result = Embedder(OpenAIEmbeddingModel(EMBEDDER, provider=provider)).embed_documents_sync(["A cat sleeps.", "Interest rates rose."])
    assert [len(vector) for vector in result.embeddings] == [DIMENSIONS, DIMENSIONS]
    assert result.usage.input_tokens > 0


def test_responses(base_url):
    model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=base_url, api_key=KEY))
    agent = Agent(model, model_settings=SETTINGS)
    assert "Berlin" in agent.run_sync(CAPITAL).output
