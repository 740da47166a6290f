"""Processor time of the gateway for a request, the console closed and open by turns."""

from __future__ import annotations

import statistics
import time

from .load import apart, awake, connect, load, processor_seconds, watching
from .statistic import mean_interval, median_interval

# The page's first load is not what it costs to have it open.
SETTLE_S = 1.5


async def block(gateway, clients, browser, kind: str, rate: float, seconds: float) -> dict:
    page = await watching(browser, gateway.url) if kind == "open" else None
    await load(clients, rate, SETTLE_S)
    used, began = processor_seconds(gateway.process.pid), time.monotonic()
    answered = await load(clients, rate, seconds)
    took, used = time.monotonic() - began, processor_seconds(gateway.process.pid) - used
    if page:
        await page.close()
    return {"console": kind, "seconds": round(took, 3), "answered": answered, "rate": round(answered / took, 1),
            "processor_s": round(used, 6), "us_per_request": round(1e6 * used / answered, 3)}


async def measure(gateway, start_browser, rate: float, seconds: float, pairs: int) -> tuple[list[dict], str]:
    clients, blocks = await connect(gateway.port), []
    with awake():
        where = apart(gateway.process.pid)
        async with start_browser() as browser:
            await load(clients, rate, 3)
            for pair in range(pairs):
                # A B B A: a drift of the machine falls on both.
                for kind in ("closed", "open") if pair % 2 == 0 else ("open", "closed"):
                    blocks.append({"pair": pair} | await block(gateway, clients, browser, kind, rate, seconds))
                    print(blocks[-1], flush=True)
    return blocks, where


def table(blocks: list[dict], where: str, rate: float, seconds: float) -> list[str]:
    each = {kind: [one["us_per_request"] for one in blocks if one["console"] == kind] for kind in ("closed", "open")}
    pairs = [100 * (a / b - 1) for a, b in zip(each["open"], each["closed"], strict=True)]
    mean, half = mean_interval(pairs)
    low, high = median_interval(pairs)
    return [
        "## Processor time", "",
        f"{len(pairs)} pairs of blocks of {seconds:g} s at {rate:g} exact repeats a second, closed and open in the order A B B A; {where}. "
        "User and system time of the gateway's process over the requests answered (`blocks.csv`).", "",
        "| console | for a request, median (least, most) | requests/s, median |", "|---|---|---|",
        *(f"| {kind} | {statistics.median(values):.1f} us ({min(values):.1f}, {max(values):.1f}) | "
          f"{statistics.median(one['rate'] for one in blocks if one['console'] == kind):.0f} |" for kind, values in each.items()),
        "", f"**Open against closed, in pairs: {mean:+.2f} % ± {half:.2f}** (mean, 95 % interval), median {statistics.median(pairs):+.2f} % [{low:+.2f}, {high:+.2f}], "
        f"from {min(pairs):+.1f} to {max(pairs):+.1f} %.", "",
    ]
