"""llm, Simon Willison's tool for the command line and its Python library, with the gateway in extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import llm
import pytest
from llm.parts import ToolCallPart
from session import CAPITAL, KEY, MODEL, PERSON, REPORT, WEATHER, Person, tells_the_weather

OPTIONS = {"temperature": 0, "max_tokens": 200}


@pytest.fixture(scope="module")
def home(tmp_path_factory, gateway):
    """Its folder of settings, as a user has it."""
    home = tmp_path_factory.mktemp("llm")
    (home / "keys.json").write_text(json.dumps({"reprise": KEY}))
    ours = {"api_base": f"{gateway.url}/v1", "api_key_name": "reprise", "supports_schema": True, "supports_tools": True}
    ours["headers"] = {"x-reprise-max-examples": "0"}
    models = [{"model_id": "reprise", "model_name": MODEL} | ours, {"model_id": "nobody", "model_name": "gpt-99"} | ours]
    # YAML holds JSON.
    (home / "extra-openai-models.yaml").write_text(json.dumps(models))
    before = os.environ.get("LLM_USER_PATH")
    os.environ["LLM_USER_PATH"] = str(home)
    yield home
    del os.environ["LLM_USER_PATH"]
    if before is not None:
        os.environ["LLM_USER_PATH"] = before


@pytest.fixture
def model(home):
    return llm.get_model("reprise")


def run(home, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LLM_USER_PATH": str(home)}
    return subprocess.run([sys.executable, "-m", "llm", *arguments], env=environment, capture_output=True, text=True, timeout=120)


def test_chat_on_the_command_line(home):
    arguments = ["-m", "reprise", "-o", "temperature", "0", "-o", "max_tokens", "48", "--usage", CAPITAL]
    for more in ([], ["--no-stream"]):
        done = run(home, *more, *arguments)
        assert done.returncode == 0, done.stderr
        assert "Berlin" in done.stdout
        assert "Token usage:" in done.stderr
    logged = json.loads(run(home, "logs", "--json", "-n", "1").stdout)
    assert logged[0]["input_tokens"] > 0 and logged[0]["output_tokens"] > 0


def test_an_exact_repeat_is_streamed_alike_with_its_usage(model):
    ask = {"prompt": CAPITAL, "temperature": 0, "max_tokens": 104}
    first = model.prompt(**ask, stream=False)
    text = first.text()
    again = model.prompt(**ask, stream=True)
    assert "".join(again) == text
    assert again.usage().output == first.usage().output > 0


def test_stream_and_several_turns(model):
    conversation = model.conversation()
    first = conversation.prompt("Name three colours, llm.", **OPTIONS)
    assert len(list(first)) > 3, "it comes in parts"
    second = conversation.prompt("Which of them is the sky?", **OPTIONS)
    assert second.text() and second.usage().input > first.usage().input


def get_weather(city: str, unit: str) -> str:
    """The weather of a city."""
    return REPORT


def test_a_tool_is_called_and_answered(model):
    # It has no `tool_choice`, and a model so small will not call by itself: the call stands in the history, where llm finds it,
    # carries it out and sends its result.
    call = ToolCallPart(name="get_weather", arguments={"city": "Berlin", "unit": "celsius"}, tool_call_id="call_1")
    history = [llm.user(WEATHER), llm.assistant(call)]
    chain = model.chain(messages=history, tools=[get_weather], options=OPTIONS)
    assert tells_the_weather(chain.text())


def test_tools_that_may_be_called(model):
    chain = model.conversation().chain(WEATHER, tools=[get_weather], chain_limit=4, options=OPTIONS)
    responses = list(chain.responses())
    for response in responses:
        for called in response.tool_calls():
            assert called.name == "get_weather" and set(called.arguments) == {"city", "unit"}
    assert responses and not responses[-1].tool_calls()


def test_structured_output(model):
    answer = model.prompt(PERSON, schema=Person, **OPTIONS)
    Person.model_validate_json(answer.text())


def test_errors_are_told(home):
    missing = run(home, "-m", "nobody", CAPITAL)
    assert missing.returncode == 1 and "gpt-99" in missing.stderr
    refused = run(home, "-m", "reprise", "--key", "guess", CAPITAL)
    assert refused.returncode == 1 and "API key" in refused.stderr
    range_of = run(home, "-m", "reprise", "-o", "presence_penalty", "2", "-o", "max_tokens", "0", CAPITAL)
    assert range_of.returncode == 1 and "max_tokens" in range_of.stderr


def test_models_of_an_endpoint(home, base_url):
    done = run(home, "openai", "endpoint", base_url, "--models", "--key", KEY)
    assert done.returncode == 0, done.stderr
    assert MODEL in done.stdout.split()
