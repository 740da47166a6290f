"""The gateway that the console is tested on, and what is asked of it."""

from __future__ import annotations

import json

from reprise_process import Reprise, eventually

# `large` is the same model as a mixture of experts over two devices, so that its micro-queues are there to be seen.
CONFIG = """
[router]
deadline_ms = 20000
default_tier = "large"

[[tiers]]
name = "small"
model = "smollm2-135m-instruct-q4_1"
cost = 0.1
threads = 1
prompt_price = 0.1
completion_price = 0.4

[[tiers]]
name = "large"
model = "smollm2-135m-instruct-moe-4x2-q4_1"
devices = ["cpu", "cpu"]
max_sequences = 4
cost = 1.0
prompt_price = 1.0
completion_price = 4.0
"""


def remembered(gateway: Reprise, question: str) -> str:
    """Asks, and waits until the answer has become an example; the request's id."""
    # Always the same short answer, which comes to its end: what is cut off is not remembered.
    alone = {"cache-control": "no-cache", "x-reprise-max-examples": "0"}
    status, headers, _ = gateway.chat(question, model="small", headers=alone)
    assert status == 200
    request_id = headers["x-request-id"]
    eventually(f"{question} is remembered", lambda: decision(gateway, request_id)["admitted"])
    return request_id


def decision(gateway: Reprise, request_id: str) -> dict:
    status, _, text = gateway.call("GET", f"/admin/v1/router/decisions/{request_id}")
    assert status == 200
    return json.loads(text)


def with_examples(gateway: Reprise, question: str) -> str:
    """The policy draws: it is asked until it has shown examples."""
    for number in range(20):
        status, headers, _ = gateway.chat(f"{question} ({number})")
        assert status == 200
        if headers["x-reprise-cache"] == "EXAMPLES":
            return headers["x-request-id"]
    raise AssertionError("no example was shown in 20 requests")
