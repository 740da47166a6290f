"""response_format on the real small model: what it says is JSON that the schema admits, however little sense it has."""

from __future__ import annotations

import json

import openai
import pydantic
import pytest
from schemas import SCHEMAS, check
from test_openai_sdk import PLAIN

FIELDS = {"model": "small", "max_tokens": 600, "extra_headers": PLAIN}


def asking(what: str) -> list[dict]:
    return [{"role": "user", "content": f"Give me an example of this as JSON: {what}"}]


def strict(name: str, schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_is_valid(client, name):
    schema = SCHEMAS[name]
    for sampling in ({"temperature": 0}, {"temperature": 1.5, "seed": 7}):
        answer = client.chat.completions.create(
            **FIELDS, **sampling, messages=asking(name), response_format=strict(name, schema)
        )
        choice = answer.choices[0]
        assert choice.finish_reason == "stop", choice.message.content
        check(schema, choice.message.content)


def test_any_object(client):
    answer = client.chat.completions.create(
        **FIELDS | {"max_tokens": 1500}, temperature=0, messages=asking("the name and the age of one person"),
        response_format={"type": "json_object"},
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    assert answer.choices[0].message.content.startswith("{")


def test_streamed_it_is_the_same_and_logprobs_are_told(client):
    fields = FIELDS | {
        "messages": asking("ticket"), "temperature": 0, "response_format": strict("ticket", SCHEMAS["ticket"]),
        "logprobs": True, "top_logprobs": 2,
    }
    whole = client.chat.completions.create(**fields).choices[0]
    chunks = list(client.chat.completions.create(**fields, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    told = b"".join(bytes(token.bytes) for token in whole.logprobs.content).decode()
    assert told == whole.message.content
    assert len(chunks) > 5, "it comes in parts"


def test_limits_and_stops_still_end_it(client):
    fields = FIELDS | {"messages": asking("recipe"), "temperature": 0, "response_format": strict("recipe", SCHEMAS["recipe"])}
    cut = client.chat.completions.create(**fields | {"max_tokens": 4})
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 4)
    stopped = client.chat.completions.create(**fields, stop=['"servings"']).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content.startswith('{') and "servings" not in stopped.message.content


def test_several_choices(client):
    answer = client.chat.completions.create(
        **FIELDS, n=3, temperature=1.5, seed=3, messages=asking("person"), response_format=strict("person", SCHEMAS["person"])
    )
    for choice in answer.choices:
        check(SCHEMAS["person"], choice.message.content)


def test_the_sdks_own_parsing(client):
    class Pet(pydantic.BaseModel):
        species: str = pydantic.Field(max_length=10)
        age: int = pydantic.Field(ge=0, le=30)

    class Person(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        pets: list[Pet] = pydantic.Field(max_length=2)

    answer = client.chat.completions.parse(**FIELDS, temperature=0, messages=asking("a person and their pets"), response_format=Person)
    person = answer.choices[0].message.parsed
    assert isinstance(person, Person) and len(person.name) <= 20


def test_an_exact_repeat_is_of_the_same_form(client):
    fields = {"model": "small", "max_tokens": 200, "temperature": 0, "messages": asking("label, for the cache")}
    create = client.chat.completions.with_raw_response.create
    status = [
        create(**fields, response_format=strict("label", SCHEMAS[name])).headers["x-reprise-cache"]
        for name in ("label", "label", "yes")
    ]
    assert status[1] == "HIT" and status[2] != "HIT"


@pytest.mark.parametrize(
    ("param", "format"),
    [
        ("response_format", strict("a", {"type": "array", "uniqueItems": True})),
        ("response_format", strict("a", {"$ref": "#/$defs/none"})),
        ("response_format", strict("a", {"type": "strange"})),
        ("response_format", strict("a", {"enum": ["x" * 70_000]})),
        ("response_format.json_schema.name", strict("a b", {})),
        ("response_format.json_schema", {"type": "json_schema"}),
        ("response_format.json_schema.schema", strict("a", [])),
        ("response_format", {"type": "xml"}),
    ],
)
def test_what_cannot_be_held_to_is_refused_by_name(client, param, format):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=asking("x"), response_format=format)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_a_schema_nested_too_deep(client):
    schema: dict = {"type": "string"}
    for _ in range(70):
        schema = {"type": "array", "items": schema}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=asking("x"), response_format=strict("a", schema))
    assert caught.value.param == "response_format" and "nested" in caught.value.message
