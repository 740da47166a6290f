"""Instructions of the gateway, counted by valgrind's callgrind: no noise of a busy machine reaches them.

Under callgrind the gateway is some fifty times slower and does not get to 1,000 requests a second. So two lower rates are
counted, at both of which the console gets all the events it ever gets (16 every 200 ms), and the line through them is told
at the rate wanted: a second costs `still + each * rate`. Instructions of the kernel are not counted.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from .load import connect, load, watching
from .statistic import bootstrap

# Above 80/s every burst is full.
RATES = (100.0, 300.0)


def wrapper(home: pathlib.Path, binary: pathlib.Path) -> pathlib.Path:
    """What starts the gateway under callgrind, to be named as its binary."""
    path = home / "counted"
    path.write_text(f'#!/bin/sh\nexec valgrind --tool=callgrind --callgrind-out-file="{home}/callgrind.out" "{binary}" "$@"\n')
    path.chmod(0o755)
    return path


def available() -> bool:
    return bool(shutil.which("valgrind") and shutil.which("callgrind_control"))


def control(pid: int, flag: str) -> str:
    return subprocess.run(["callgrind_control", flag, str(pid)], check=True, capture_output=True, text=True, timeout=120).stdout


def instructions(pid: int) -> int:
    """Of all threads since they were last set to zero."""
    return sum(int(number.replace(",", "")) for number in re.findall(r"^ +Th *\d+ +([\d,]+)", control(pid, "-e"), re.M))


async def measure(gateway, start_browser, seconds: float, pairs: int) -> list[dict]:
    clients, blocks = await connect(gateway.port), []
    pid = gateway.process.pid
    async with start_browser() as browser:
        await load(clients, RATES[0], 5)
        for pair in range(pairs):
            for rate in RATES:
                for kind in ("closed", "open") if pair % 2 == 0 else ("open", "closed"):
                    page = await watching(browser, gateway.url) if kind == "open" else None
                    await load(clients, rate, 2)
                    await asyncio.to_thread(control, pid, "-z")
                    began = time.monotonic()
                    answered = await load(clients, rate, seconds)
                    took = time.monotonic() - began
                    counted = await asyncio.to_thread(instructions, pid)
                    if page:
                        await page.close()
                    blocks.append({"pair": pair, "console": kind, "asked": rate, "seconds": round(took, 3), "answered": answered,
                                   "rate": round(answered / took, 2), "instructions": counted})
                    print(blocks[-1], flush=True)
    return blocks


def line(blocks: list[dict], rate: float) -> tuple[float, float, float]:
    """Least squares: instructions of a second without requests, of a request, and of a second at `rate`."""
    fit = statistics.linear_regression([one["rate"] for one in blocks], [one["instructions"] / one["seconds"] for one in blocks])
    return fit.intercept, fit.slope, fit.intercept + fit.slope * rate


def table(blocks: list[dict], rate: float) -> list[str]:
    each = {kind: [one for one in blocks if one["console"] == kind] for kind in ("closed", "open")}

    def extra(closed: list[dict], opened: list[dict]) -> float:
        return 100 * (line(opened, rate)[2] / line(closed, rate)[2] - 1)

    # Of each rate as many as there were.
    strata = [[one for one in blocks if one["console"] == kind and one["asked"] == asked]
              for kind in ("closed", "open") for asked in RATES]

    def draw(source) -> float:
        drawn = [source.choices(stratum, k=len(stratum)) for stratum in strata]
        return extra(drawn[0] + drawn[1], drawn[2] + drawn[3])

    low, high = bootstrap(draw)
    lines = ["## Instructions", "",
             f"The gateway under callgrind, {len(blocks)} blocks at {RATES[0]:g} and {RATES[1]:g} requests/s (`counted.csv`), and the line through them; user instructions only.", "",
             "| console | a second without requests | a request | a second at "f"{rate:g}/s |", "|---|---|---|---|"]
    for kind, own in each.items():
        still, one, whole = line(own, rate)
        lines.append(f"| {kind} | {still / 1e6:.2f} M | {one / 1e3:.1f} k | {whole / 1e6:.1f} M |")
    return lines + ["", f"**Open against closed at {rate:g}/s: {extra(each['closed'], each['open']):+.2f} % [{low:+.2f}, {high:+.2f}]** (bootstrap over blocks, 95 %).", ""]


def settings() -> tuple[float, int]:
    return float(os.environ.get("COUNTED_S", "10")), int(os.environ.get("COUNTED_PAIRS", "6"))
