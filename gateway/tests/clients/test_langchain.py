"""langchain-openai: chat, streams, bound tools, structured output, embeddings."""

from __future__ import annotations

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from session import CAPITAL, DIMENSIONS, EMBEDDER, KEY, MODEL, PERSON, PLAIN, REPORT, TOO_LONG, WEATHER, Person, Place, tells_the_weather


@tool(args_schema=Place)
def get_weather(city: str, unit: str) -> str:
    """The weather of a city."""
    return REPORT


@pytest.fixture
def chat(base_url):
    def make(**fields) -> ChatOpenAI:
        ours = {"model": MODEL, "base_url": base_url, "api_key": KEY, "temperature": 0, "max_tokens": 200, "max_retries": 0}
        return ChatOpenAI(**ours | {"default_headers": PLAIN} | fields)

    return make


def test_chat(chat):
    answer = chat().invoke(CAPITAL)
    assert "Berlin" in answer.content
    assert answer.response_metadata["finish_reason"] == "stop"
    told = answer.usage_metadata
    assert told["total_tokens"] == told["input_tokens"] + told["output_tokens"] > 0


def test_an_exact_repeat_is_streamed_alike_with_its_usage(chat):
    # Each client has a limit of its own here: what another was told is no answer to it.
    model = chat(max_tokens=101, include_response_headers=True, stream_usage=True)
    first = model.invoke(CAPITAL)
    assert first.response_metadata["headers"]["x-reprise-cache"] == "MISS"
    chunks = list(model.stream(CAPITAL))
    # The headers come with the first chunk.
    assert chunks[0].response_metadata["headers"]["x-reprise-cache"] == "HIT"
    whole = sum(chunks[1:], chunks[0])
    assert whole.content == first.content
    assert whole.usage_metadata["output_tokens"] == first.usage_metadata["output_tokens"]


def test_stream(chat):
    chunks = list(chat(stream_usage=True).stream("Name three colours, langchain."))
    assert len([chunk for chunk in chunks if chunk.content]) > 3, "it comes in parts"
    whole = sum(chunks[1:], chunks[0])
    assert whole.response_metadata["finish_reason"] in ("stop", "length")
    assert whole.usage_metadata["output_tokens"] > 3


def test_several_turns(chat):
    turns = [SystemMessage("Be brief."), HumanMessage(CAPITAL), AIMessage("Berlin."), HumanMessage("Which river flows through it?")]
    alone = chat().invoke([turns[0], turns[3]]).usage_metadata["input_tokens"]
    answer = chat().invoke(turns)
    assert answer.content and answer.usage_metadata["input_tokens"] > alone


@pytest.mark.parametrize("choice", ["get_weather", "any"])
def test_a_tool_is_called_and_answered(chat, choice):
    asked = [HumanMessage(WEATHER)]
    called = chat().bind_tools([get_weather], tool_choice=choice, parallel_tool_calls=False).invoke(asked)
    assert called.response_metadata["finish_reason"] == "tool_calls"
    [call] = called.tool_calls
    Place.model_validate(call["args"])
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage) and result.tool_call_id == call["id"]
    # The model's own call may name any city; what the tool told is what counts.
    answer = chat().bind_tools([get_weather], tool_choice="none").invoke([*asked, called, result])
    assert tells_the_weather(answer.content) and not answer.tool_calls


def test_a_streamed_call_is_put_together(chat):
    model = chat().bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)
    chunks = list(model.stream(WEATHER))
    whole = sum(chunks[1:], chunks[0])
    [call] = whole.tool_calls
    Place.model_validate(call["args"])
    assert not whole.invalid_tool_calls and len([chunk for chunk in chunks if chunk.tool_call_chunks]) > 3


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat, method):
    person = chat().with_structured_output(Person, method=method).invoke(PERSON)
    assert isinstance(person, Person)


def test_errors_have_their_types(chat):
    with pytest.raises(openai.AuthenticationError) as refused:
        chat(api_key="guess").invoke(CAPITAL)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as refused:
        chat(model="gpt-99").invoke(CAPITAL)
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        chat(temperature=9).invoke(CAPITAL)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as refused:
        list(chat().stream(TOO_LONG))
    assert refused.value.code == "context_length_exceeded"


def test_embeddings(base_url):
    # Texts are sent as they are: langchain's own check would send OpenAI's tokens.
    embeddings = OpenAIEmbeddings(model=EMBEDDER, base_url=base_url, api_key=KEY, check_embedding_ctx_length=False, max_retries=0)
    near, also, far = embeddings.embed_documents(["A cat sleeps.", "A kitten is asleep.", "Interest rates rose."])
    assert len(near) == DIMENSIONS
    dot = lambda a, b: sum(x * y for x, y in zip(a, b, strict=True))  # noqa: E731
    assert dot(near, also) > dot(near, far) + 0.2
    assert dot(embeddings.embed_query("A cat sleeps."), near) > 0.999
