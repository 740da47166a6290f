"""What every client does in its session: the same gateway, model, questions and forms, said in each client's own way."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, Field
from reprise_process import SMALL

KEY = "sk-of-the-sessions"
MODEL = "small"
MODEL_ID = "smollm2-135m-instruct-q4_1"
EMBEDDER = "all-minilm-l6-v2"
DIMENSIONS = 384
# Keys are asked for, so that each client has to send its own in the way it does.
CONFIG = f"""{SMALL}
[[auth.keys]]
name = "sessions"
tenant = "sessions"
key_sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
"""

CAPITAL = "What is the capital of Germany?"
PERSON = "Make up a person, as JSON."
TOO_LONG = "word " * 100_000
# Answers that are compared must come of one prompt: no example may enter it.
PLAIN = {"x-reprise-max-examples": "0"}

WEATHER = "What is the weather in Berlin?"
REPORT = "It is 17 degrees and raining in Berlin."


class Person(BaseModel):
    """A person."""

    # Bounded: a grammar makes an answer valid, but no grammar makes a small model come to an end.
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=130)
    pet: Literal["cat", "dog"] | None


class Place(BaseModel):
    """Where, and in which unit."""

    city: str = Field(max_length=20)
    unit: Literal["celsius", "fahrenheit"]


def tells_the_weather(text: str) -> bool:
    return "17" in text or "rain" in text
