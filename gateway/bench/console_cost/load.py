"""Exact repeats at a rate over kept connections, and the clocks that they are measured by."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

CONNECTIONS = 32
BODY = json.dumps({"model": "small", "temperature": 0, "max_tokens": 48,
                   "messages": [{"role": "user", "content": "What is the capital of Germany?"}]}).encode()


def processor_seconds(pid: int) -> float:
    """Of all threads of a process, ended ones too, user and system: the kernel's clock of the process, in nanoseconds.
    (/proc/PID/stat counts ticks of 10 ms: 2 % of a block.)"""
    return time.clock_gettime((~pid << 3) | 2)


def apart(pid: int) -> str:
    """The process `pid` to the first core, this one and what it will start to the others; in words. PIN=0 leaves them."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or os.environ.get("PIN") == "0":
        return "gateway, load and browser share all cores"
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores[:1])
    os.sched_setaffinity(0, cores[1:])
    return f"the gateway on one core, load and browser on {len(cores) - 1} other"


@contextlib.contextmanager
def awake():
    """No core goes to sleep: a loop on each that runs only where nothing else does. Otherwise an open page, which keeps a core
    awake, spares the gateway the waking of it, and seems to cost less than nothing."""
    spin = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    loops = [subprocess.Popen([sys.executable, "-c", spin, str(core)]) for core in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class Client:
    """A connection that is kept; one request at a time."""

    async def open(self, port: int) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        self.sent = f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY
        return self

    async def ask(self) -> str:
        """The request's id."""
        self.writer.write(self.sent)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200") and b"x-reprise-cache: hit" in head, head
        await self.reader.readexactly(int(field(head, b"content-length")))
        return field(head, b"x-request-id")


def field(head: bytes, name: bytes) -> str:
    return head.split(name + b": ")[1].split(b"\r\n")[0].decode()


async def connect(port: int, count: int = CONNECTIONS) -> list[Client]:
    return [await Client().open(port) for _ in range(count)]


async def load(clients: list[Client], rate: float, seconds: float, ended: dict[str, float] | None = None) -> int:
    """Open loop as far as the connections go: each has its own beat. `ended` takes when each request had its answer."""
    beat = len(clients) / rate
    began = time.monotonic()

    async def one(client: Client, offset: float) -> int:
        count = 0
        while (due := began + offset + count * beat) < began + seconds:
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            request_id = await client.ask()
            if ended is not None:
                ended[request_id] = time.time()
            count += 1
        return count

    return sum(await asyncio.gather(*(one(client, index * beat / len(clients)) for index, client in enumerate(clients))))


async def watching(browser, url: str):
    """The console, live."""
    page = await browser.new_page()
    await page.goto(url)
    await page.locator("#live[data-state=live]").wait_for()
    return page
