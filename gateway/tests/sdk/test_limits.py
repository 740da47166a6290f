"""Keys, limits and budgets as the official SDK meets them."""

import hashlib

import openai
import pytest
from reprise_process import Reprise

ASK = {"model": "small", "messages": [{"role": "user", "content": "What is the capital of Germany?"}], "max_tokens": 16}
KEYS = {
    "minute": "requests_per_minute = 2",
    "budget": 'budget_tokens = 60\nbudget_period = "total"',
    "free": "",
}


def config() -> str:
    text = '[[tiers]]\nname = "small"\nmodel = "smollm2-135m-instruct-q4_1"\ncost = 0.1\nthreads = 2\n'
    for key, limits in KEYS.items():
        digest = hashlib.sha256(key.encode()).hexdigest()
        text += f'[[auth.keys]]\nname = "{key}"\ntenant = "{key}"\nkey_sha256 = "{digest}"\n[auth.keys.limits]\n{limits}\n'
    return text


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    with Reprise(tmp_path_factory.mktemp("limits"), config()) as running:
        yield running


def client(gateway: Reprise, key: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=retries)


def test_a_wrong_key_is_an_authentication_error(limited):
    with pytest.raises(openai.AuthenticationError) as error:
        client(limited, "guess").models.list()
    assert error.value.code == "invalid_api_key"


def test_a_limit_by_the_minute_is_a_rate_limit_error_with_its_headers(limited):
    ours = client(limited, "minute")
    for left in (1, 0):
        raw = ours.chat.completions.with_raw_response.create(**ASK)
        assert raw.headers["x-ratelimit-limit-requests"] == "2"
        assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(openai.RateLimitError) as error:
        ours.chat.completions.create(**ASK, stream=True)
    assert (error.value.code, error.value.type) == ("rate_limit_exceeded", "requests")
    assert 1 <= int(error.value.response.headers["retry-after"]) <= 61


def test_a_spent_budget_is_not_asked_for_again(limited):
    ours = client(limited, "budget", retries=5)
    used = 0
    with pytest.raises(openai.RateLimitError) as error:
        for seed in range(20):
            used += ours.chat.completions.create(**ASK, seed=seed, temperature=1).usage.total_tokens
    assert error.value.code == "insufficient_quota"
    assert 0 < used <= 60
    # The SDK obeys: it did not try five times.
    assert error.value.response.headers["x-should-retry"] == "false"
    assert error.value.response.request.headers.get("x-stainless-retry-count") == "0"


def test_nothing_is_told_of_limits_that_are_not(limited):
    raw = client(limited, "free").chat.completions.with_raw_response.create(**ASK)
    assert not [name for name in raw.headers if name.startswith("x-ratelimit")]
    assert raw.headers["cache-control"] == "private, no-store"
