"""The official openai SDK against the real gateway and the real small model: what it parses, it can use."""

from __future__ import annotations

import asyncio

import openai
import pytest

CAPITAL = [{"role": "user", "content": "What is the capital of Germany?"}]


def test_chat(client):
    answer = client.chat.completions.create(model="small", messages=CAPITAL, temperature=0, max_tokens=48)
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.role) == ("stop", "assistant")
    assert "Berlin" in choice.message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.object == "chat.completion" and answer.id and answer.created > 1_600_000_000


def test_headers_of_the_contract(client):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=CAPITAL, temperature=0, max_tokens=48)
    for name in ("x-request-id", "x-reprise-tier", "x-reprise-cache", "x-reprise-examples", "x-reprise-overhead-ms"):
        assert raw.headers.get(name), name
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_stream(client):
    whole = client.chat.completions.create(model="small", messages=CAPITAL, temperature=0, max_tokens=48)
    stream = client.chat.completions.create(
        model="small", messages=CAPITAL, temperature=0, max_tokens=48, stream=True,
        stream_options={"include_usage": True}, extra_headers={"x-reprise-cache": "off"},
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_stream_helper(client):
    with client.chat.completions.stream(model="small", messages=CAPITAL, temperature=0, max_tokens=48) as stream:
        for _event in stream:
            pass
        final = stream.get_final_completion()
    assert "Berlin" in final.choices[0].message.content


def test_a_stream_that_is_closed_early_frees_its_sequence(client, gateway):
    from reprise_process import eventually

    stream = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Write a very long story."}], max_tokens=4000, stream=True
    )
    next(iter(stream))
    stream.close()
    idle = 'reprise_tier_running{tier="small"} 0'
    eventually("the sequence is freed", lambda: idle in gateway.call("GET", "/metrics")[2])


def test_async_client(gateway):
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            create = client.chat.completions.create
            answers = await asyncio.gather(
                *(create(model="small", messages=CAPITAL, temperature=0, max_tokens=48) for _ in range(4))
            )
            return [answer.choices[0].message.content for answer in answers]

    assert len(set(asyncio.run(ask()))) == 1


def test_models(client):
    models = list(client.models.list())
    assert {"auto", "small", "smollm2-135m-instruct-q4_1"} <= {model.id for model in models}
    assert all(model.object == "model" and model.owned_by for model in models)


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-99", messages=CAPITAL)
    assert caught.value.code == "model_not_found"
    assert "gpt-99" in caught.value.message
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("param", "fields"),
    [("n", {"n": 0}), ("temperature", {"temperature": 9}), ("messages", {"messages": []}), ("top_p", {"top_p": 2})],
)
def test_bad_requests(client, param, fields):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**({"model": "small", "messages": CAPITAL} | fields))
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_over_the_context(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=[{"role": "user", "content": "word " * 100_000}])
    assert caught.value.code == "context_length_exceeded"


def test_wrong_path(client):
    with pytest.raises(openai.NotFoundError):
        client.get("/nothing", cast_to=object)
