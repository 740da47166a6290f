"""/v1/completions: text that is gone on with."""

from __future__ import annotations

import openai
import pytest
from test_openai_sdk import PLAIN

PROMPT = "Once upon a time there was a"
FIELDS = {"model": "small", "temperature": 0, "max_tokens": 12, "extra_headers": PLAIN}


def test_a_text_is_gone_on_with(client):
    answer = client.completions.create(**FIELDS, prompt=PROMPT)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    choice = answer.choices[0]
    assert choice.text and choice.finish_reason == "length" and choice.logprobs is None
    assert answer.usage.completion_tokens == 12
    # No template: the text alone is the prompt.
    assert answer.usage.prompt_tokens < 12


def test_echo(client):
    plain = client.completions.create(**FIELDS, prompt=PROMPT).choices[0].text
    assert client.completions.create(**FIELDS, prompt=PROMPT, echo=True).choices[0].text == PROMPT + plain
    only = client.completions.create(**FIELDS | {"max_tokens": 0}, prompt=PROMPT, echo=True)
    assert (only.choices[0].text, only.usage.completion_tokens) == (PROMPT, 0)
    streamed = client.completions.create(**FIELDS, prompt=PROMPT, echo=True, stream=True)
    assert "".join(choice.text for chunk in streamed for choice in chunk.choices) == PROMPT + plain


def test_several_prompts_with_several_choices(client):
    fields = FIELDS | {"temperature": 1.2, "seed": 4, "n": 2, "prompt": [PROMPT, "2 + 2 ="], "echo": True}
    answer = client.completions.create(**fields)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    begins = [choice.text.startswith(PROMPT) for choice in answer.choices]
    assert begins == [True, True, False, False] and answer.choices[3].text.startswith("2 + 2 =")
    assert answer.choices[0].text != answer.choices[1].text
    alone = [client.completions.create(**FIELDS, prompt=prompt).usage.prompt_tokens for prompt in fields["prompt"]]
    assert answer.usage.prompt_tokens == sum(alone)
    streamed = ["", "", "", ""]
    for chunk in client.completions.create(**fields, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [choice.text for choice in answer.choices]


def test_logprobs(client):
    choice = client.completions.create(**FIELDS, prompt=PROMPT, logprobs=2).choices[0]
    told = choice.logprobs
    assert "".join(told.tokens) == choice.text
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == 12
    assert told.text_offset == [len("".join(told.tokens[:index])) for index in range(12)]
    assert all(token in top and top[token] == logprob for token, top, logprob in zip(told.tokens, told.top_logprobs, told.token_logprobs))
    chunks = list(client.completions.create(**FIELDS, prompt=PROMPT, logprobs=2, stream=True))
    streamed = [token for chunk in chunks for choice in chunk.choices if choice.logprobs for token in choice.logprobs.tokens]
    offsets = [offset for chunk in chunks for choice in chunk.choices if choice.logprobs for offset in choice.logprobs.text_offset]
    assert (streamed, offsets) == (told.tokens, told.text_offset)


def test_stop_and_stream_usage(client):
    free = client.completions.create(**FIELDS, prompt=PROMPT).choices[0].text
    stop = free[len(free) // 2 :][:4]
    stopped = client.completions.create(**FIELDS, prompt=PROMPT, stop=stop).choices[0]
    assert (stopped.text, stopped.finish_reason) == (free[: free.index(stop)], "stop")
    chunks = list(client.completions.create(**FIELDS, prompt=PROMPT, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == free
    assert chunks[-1].usage.completion_tokens == 12 and len({chunk.id for chunk in chunks}) == 1


def test_an_exact_repeat(client):
    fields = {"model": "small", "temperature": 0, "max_tokens": 40, "prompt": "A list of three colours: red,", "stop": "\n"}
    raw = [client.completions.with_raw_response.create(**fields) for _ in range(2)]
    texts = [answer.parse().choices[0].text for answer in raw]
    assert texts[0] == texts[1]
    if raw[0].parse().choices[0].finish_reason == "stop":
        assert raw[1].headers["x-reprise-cache"] == "HIT"


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("suffix", {"suffix": "the end"}), ("best_of", {"best_of": 3}), ("prompt", {"prompt": [1, 2, 3]}), ("prompt", {"prompt": []}),
        ("prompt", {"prompt": ["x"] * 17}), ("logprobs", {"logprobs": 21}), ("logprobs", {"echo": True, "logprobs": 1}),
        ("max_tokens", {"max_tokens": -1}), ("n", {"n": 9}), ("temperature", {"temperature": 3}), ("stop", {"stop": ["a"] * 5}),
    ],
)
def test_what_is_wrong_is_named(client, param, fields):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**({"model": "small", "prompt": PROMPT, "max_tokens": 4} | fields))
    assert caught.value.param == param


def test_over_the_context(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="small", prompt="word " * 20_000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
