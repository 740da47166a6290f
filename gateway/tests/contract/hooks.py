"""What schemathesis cannot know from the document: which models there are, what depends on what, and that tokens take time.

Most generated requests would be refused for a reason that says little, such as a random name of a model. Of those that the document admits,
three of four are brought to where an answer is made; what is meant to be refused stays as it is.
"""

import json
import zlib

import jsonschema_rs
import schemathesis

ANSWERING = {"createChatCompletion", "createCompletion", "createResponse"}
MODELS = {"createEmbedding": "all-minilm-l6-v2"} | dict.fromkeys(ANSWERING, "small")
LIMITS = {"createChatCompletion": "max_completion_tokens", "createCompletion": "max_tokens", "createResponse": "max_output_tokens"}
MOST_TOKENS = 6
# Each asks for something of other fields, or of the model.
BOUND = ("tools", "tool_choice", "response_format", "logit_bias", "stream_options", "top_logprobs", "max_tokens", "best_of", "suffix", "text",
         "include", "previous_response_id", "reasoning", "dimensions")


@schemathesis.hook
def map_case(_context, case):
    operation = case.operation.definition.raw.get("operationId", "")
    if operation not in MODELS or not isinstance(case.body, dict):
        return case
    body = dict(case.body)
    limit = LIMITS.get(operation)
    if limit and (body.get(limit) is None or isinstance(body[limit], int) and body[limit] > MOST_TOKENS):
        body[limit] = MOST_TOKENS
    if isinstance(body.get("n"), int) and 2 < body["n"] <= 8:
        body["n"] = 2
    negative = case.meta is not None and case.meta.generation.mode.is_negative
    if not negative and zlib.crc32(json.dumps(body, sort_keys=True, default=str).encode()) % 4:
        body = {name: value for name, value in body.items() if name not in BOUND} | {"model": MODELS[operation]}
        settle(operation, body)
    case.body = body
    return case


def settle(operation: str, body: dict) -> None:
    if limit := LIMITS.get(operation):
        body[limit] = MOST_TOKENS
    for name in ("top_p", "repetition_penalty"):
        if body.get(name) is not None:
            # The document says above 0, and means what a float of 32 bits can tell from it.
            body[name] = max(body[name], 0.01)
    if "" in (body.get("stop") or ()):
        body["stop"] = "."
    match operation:
        case "createChatCompletion":
            body["messages"] = [turn(message) for message in body["messages"]] or [turn({"role": "user"})]
        case "createCompletion":
            body["prompt"] = text(body.get("prompt"))
            if body.get("echo"):
                body["logprobs"] = None
        case "createResponse":
            body["input"] = text(body.get("input"))
        case "createEmbedding":
            body["input"] = text(body.get("input")) or "a"


def turn(message: dict) -> dict:
    """Of its role and its text; only an assistant may have no text, and only where it calls."""
    settled = {"role": message["role"], "content": text(message.get("content"))}
    return settled | {"tool_call_id": "call_1"} if message["role"] == "tool" else settled


def text(value) -> str | list[str]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return " ".join(value)
    return "What is the capital of Germany?"


@schemathesis.check
def event_conformance(_ctx, response, case) -> None:
    """Each event's data is what the document says of it, and a stream ends as one."""
    if not response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        return
    document = case.operation.schema.raw_schema
    answer = case.operation.definition.raw["responses"][str(response.status_code)]
    data = answer["content"]["text/event-stream"]["schema"]["properties"]["data"]
    until_done = "anyOf" in data
    content = (data["anyOf"][1] if until_done else data)["contentSchema"]
    validator = jsonschema_rs.Draft202012Validator({**content, "components": document["components"]})
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert events, "a stream without an event"
    if until_done:
        assert events.pop() == "[DONE]", "a stream that does not end with [DONE]"
    for event in events:
        told = json.loads(event)
        if "error" in told and "choices" not in told and "type" not in told:
            raise AssertionError(f"a stream that broke: {event}")
        validator.validate(told)
