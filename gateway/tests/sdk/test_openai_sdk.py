"""The official openai SDK against the real gateway and the real small model: what it parses, it can use."""

from __future__ import annotations

import asyncio
import math

import openai
import pytest

CAPITAL = [{"role": "user", "content": "What is the capital of Germany?"}]
# Answers that are compared must come of one prompt: no example may enter it, and no stored answer stand for it.
PLAIN = {"x-reprise-cache": "off"}


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
    fields = {"model": "small", "messages": CAPITAL, "temperature": 0, "max_tokens": 48, "extra_headers": PLAIN}
    whole = client.chat.completions.create(**fields)
    stream = client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
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
                *(create(model="small", messages=CAPITAL, temperature=0, max_tokens=48, extra_headers=PLAIN) for _ in range(4))
            )
            return [answer.choices[0].message.content for answer in answers]

    assert len(set(asyncio.run(ask()))) == 1


def test_logprobs(client):
    fields = {"model": "small", "messages": CAPITAL, "temperature": 0, "max_tokens": 48, "extra_headers": PLAIN}
    answer = client.chat.completions.create(**fields, logprobs=True, top_logprobs=3)
    choice = answer.choices[0]
    content = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).decode() == choice.message.content
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert (token.top_logprobs[0].token, token.top_logprobs[0].logprob) == (token.token, token.logprob)
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) < 1.0001
    stream = client.chat.completions.create(**fields, logprobs=True, top_logprobs=3, stream=True)
    streamed = [token for chunk in stream for token in ((chunk.choices[0].logprobs and chunk.choices[0].logprobs.content) or [])]
    assert streamed == content
    assert client.chat.completions.create(**fields).choices[0].logprobs is None


def test_logit_bias(client):
    # Tokens of SmolLM2's vocabulary: " ship" and "The".
    fields = {"model": "small", "messages": CAPITAL, "temperature": 0, "extra_headers": PLAIN}
    forced = client.chat.completions.create(**fields, logit_bias={"5575": 100}, max_tokens=3)
    assert forced.choices[0].message.content == " ship ship ship"
    free = client.chat.completions.create(**fields, max_tokens=4).choices[0].message.content
    forbidden = client.chat.completions.create(**fields, logit_bias={"504": -100}, max_tokens=4).choices[0].message.content
    assert free.startswith("The") and not forbidden.startswith("The")


def test_penalties(client):
    fields = {"model": "small", "messages": CAPITAL, "max_tokens": 32, "extra_headers": PLAIN}
    biased = fields | {"temperature": 0, "logit_bias": {"5575": 25}}
    without = client.chat.completions.create(**biased).choices[0].message.content
    with_penalty = client.chat.completions.create(**biased, frequency_penalty=2).choices[0].message.content
    assert with_penalty.count(" ship") < without.count(" ship")
    narrowed = client.chat.completions.create(**fields, temperature=2, extra_body={"top_k": 1})
    greedy = client.chat.completions.create(**fields, temperature=0)
    assert narrowed.choices[0].message.content == greedy.choices[0].message.content


def test_several_choices(client):
    fields = {
        "model": "small", "messages": CAPITAL, "temperature": 1.5, "seed": 7, "max_tokens": 12, "n": 3,
        "extra_headers": PLAIN,
    }
    answer = client.chat.completions.create(**fields)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2] and len(set(texts)) > 1
    streamed = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(**fields, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert list(streamed.values()) == texts


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
    [("n", {"n": 0}), ("temperature", {"temperature": 9}), ("messages", {"messages": []}), ("top_p", {"top_p": 2}),
     ("top_logprobs", {"logprobs": True, "top_logprobs": 21}), ("frequency_penalty", {"frequency_penalty": 3}),
     ("logit_bias", {"logit_bias": {"5": 101}}), ("n", {"n": 9})],
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
