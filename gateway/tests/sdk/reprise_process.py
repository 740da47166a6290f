"""The real gateway as a child process, for the tests in Python here and in dashboards/tests."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Ends a hang; no test measures time.
DEADLINE_S = 180.0

SMALL = """
[[tiers]]
name = "small"
model = "smollm2-135m-instruct-q4_1"
cost = 0.1
threads = 2
"""


def binary() -> pathlib.Path:
    """REPRISE_BINARY, or the release build of this tree."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = pathlib.Path(os.environ.get("REPRISE_BINARY", target / "release" / "reprise"))
    if not path.exists():
        raise SystemExit(f"{path} was not found: cargo build --release -p reprise-gateway")
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(what: str, probe):
    """The first answer of `probe` that is not None or False."""
    ends = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends:
        value = probe()
        if value is not None and value is not False:
            return value
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {DEADLINE_S} s: {what}")


class Reprise:
    """Ready once entered; ended and, after a failure, quoted when left."""

    def __init__(self, home: pathlib.Path, config: str = SMALL) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "reprise.log"
        (home / "reprise.toml").write_text(config)

    def __enter__(self) -> Reprise:
        arguments = ["serve", "--config", self.home / "reprise.toml", "--listen", f"127.0.0.1:{self.port}"]
        environment = {name: value for name, value in os.environ.items() if name != "REPRISE_ADMIN_KEY"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary(), *arguments, "--data-dir", self.home / "data"],
                cwd=self.home, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        try:
            eventually("the gateway is ready", self._ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_failure) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ready(self) -> bool:
        assert self.process.poll() is None, f"the gateway ended:\n{self.log.read_text()}"
        # One ready tier is enough to answer: wait until it is known of every tier whether it comes up, and for the cache.
        status, _, text = self.call("GET", "/readyz")
        if status != 200:
            return False
        ready = json.loads(text)
        return ready["cache"] == "ready" and all(tier["state"] != "loading" for tier in ready["tiers"])

    def call(self, method: str, path: str, body=None, headers: dict[str, str] | None = None):
        """(status, headers, text); status 0 if there was no answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()
        except OSError:
            return 0, {}, ""

    def chat(self, question: str, model: str = "auto", headers: dict[str, str] | None = None, **fields):
        body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 48}
        return self.call("POST", "/v1/chat/completions", body | fields, headers)
