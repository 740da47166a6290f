"""tools and tool_choice on the real small model, whose own template knows none: calls have their form all the same."""

from __future__ import annotations

import json

import jsonschema
import openai
import pytest
from test_openai_sdk import PLAIN

WEATHER = {
    "type": "object", "required": ["city", "unit"], "additionalProperties": False,
    "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": WEATHER, "strict": True}},
    {"type": "function", "function": {"name": "get_time", "description": "The time now"}},
]
SCHEMAS = {"get_weather": WEATHER, "get_time": {"type": "object", "maxProperties": 0}}
ASK = [{"role": "user", "content": "What is the weather in Berlin?"}]
FIELDS = {"model": "small", "temperature": 0, "max_tokens": 400, "extra_headers": PLAIN, "tools": TOOLS}


def check(calls) -> None:
    for call in calls:
        assert call.id and call.type == "function"
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


def test_a_call_is_made_where_it_must_be(client):
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = client.chat.completions.create(**FIELDS, messages=ASK, tool_choice=choice, parallel_tool_calls=False)
        first = answer.choices[0]
        assert (first.finish_reason, first.message.content, len(first.message.tool_calls)) == ("tool_calls", None, 1)
        check(first.message.tool_calls)
    assert first.message.tool_calls[0].function.name == "get_weather"


def test_calls_in_parallel_have_ids_of_their_own(client):
    answer = client.chat.completions.create(**FIELDS | {"temperature": 1.3, "seed": 5, "max_tokens": 1500}, messages=ASK, tool_choice="required", n=4)
    calls = [call for choice in answer.choices for call in choice.message.tool_calls]
    check(calls)
    assert len({call.id for call in calls}) == len(calls)


def test_streamed_deltas_make_the_same_call(client):
    fields = FIELDS | {"messages": ASK, "tool_choice": "required", "parallel_tool_calls": False}
    whole = client.chat.completions.create(**fields).choices[0].message.tool_calls[0]
    name, arguments, reasons, pieces = "", "", [], 0
    for chunk in client.chat.completions.create(**fields, stream=True):
        choice = chunk.choices[0]
        reasons += [choice.finish_reason] if choice.finish_reason else []
        for delta in choice.delta.tool_calls or []:
            assert delta.index == 0
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
            pieces += 1
    assert (name, arguments, reasons) == (whole.function.name, whole.function.arguments, ["tool_calls"])
    assert pieces > 3, "the arguments come in parts"


def test_the_sdks_stream_helper_puts_it_together(client):
    with client.chat.completions.stream(**FIELDS, messages=ASK, tool_choice="required", parallel_tool_calls=False) as stream:
        for _event in stream:
            pass
        final = stream.get_final_completion()
    check(final.choices[0].message.tool_calls)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_it_may_just_answer(client, choice):
    answer = client.chat.completions.create(**FIELDS | {"max_tokens": 60}, messages=[{"role": "user", "content": "Say hello."}], tool_choice=choice)
    first = answer.choices[0]
    if first.message.tool_calls:
        assert choice == "auto"
        check(first.message.tool_calls)
    else:
        assert first.message.content and "<tool_call>" not in first.message.content


def test_a_call_and_its_result_are_history(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Berlin", "unit": "celsius"}'}}
    history = [
        *ASK, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It is 17 degrees and raining in Berlin."},
    ]
    for tools in (TOOLS, None):
        fields = {key: value for key, value in FIELDS.items() if key != "tools"} | ({"tools": tools} if tools else {})
        answer = client.chat.completions.create(**fields | {"max_tokens": 60}, messages=history, **({"tool_choice": "none"} if tools else {}))
        assert "17" in answer.choices[0].message.content or "rain" in answer.choices[0].message.content
    asked = client.chat.completions.create(**FIELDS | {"max_tokens": 5}, messages=ASK, tool_choice="none").usage.prompt_tokens
    assert answer.usage.prompt_tokens > asked, "all turns are in the prompt"


def test_a_call_is_never_remembered(client):
    fields = FIELDS | {"messages": [{"role": "user", "content": "What is the weather in Oslo, to be forgotten?"}], "tool_choice": "required"}
    fields.pop("extra_headers")
    create = client.chat.completions.with_raw_response.create
    status = [create(**fields).headers["x-reprise-cache"] for _ in range(2)]
    assert status == ["MISS", "MISS"]


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("tool_choice", {"tool_choice": "required"}),
        ("tool_choice", {"tools": TOOLS, "tool_choice": "sometimes"}),
        ("tool_choice", {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nothing"}}}),
        ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "a b"}}]}),
        ("tools[1].function.name", {"tools": [TOOLS[1], TOOLS[1]]}),
        ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
        ("tools[0].function.parameters", {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
        ("tools[1].function.parameters", {"tools": [TOOLS[1], {"type": "function", "function": {
            "name": "f", "strict": True, "parameters": {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}}}]}),
        ("messages[1].tool_call_id", {"messages": [*ASK, {"role": "tool", "content": "x"}]}),
    ],
)
def test_what_is_wrong_is_named(client, param, fields):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**({"model": "small", "messages": ASK} | fields))
    assert caught.value.param == param
