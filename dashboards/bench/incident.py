#!/usr/bin/env python3
"""A scripted incident: do the alerts fire when something is broken, and end when it is mended?

    REPRISE_BINARY=... python dashboards/bench/incident.py OUT

A real gateway with a local small tier and a remote large one (a second gateway), a real Prometheus with the rules of this
repository, a steady load. Then, one after the other: the large tier is killed and started again, the cache is dropped, and
the small tier is overloaded. So that this takes minutes and not days, every window and every `for:` of the rules is shortened
(see WINDOWS); thresholds stay as they are. Writes alerts.csv (each second: which alert was in which state), phases.csv,
timeline.svg and table.md into OUT; exits with 1 if an alert that belongs to a fault did not fire and end.
"""

from __future__ import annotations

import csv
import itertools
import pathlib
import re
import sys
import tempfile
import threading
import time

FOLDER = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(FOLDER / "tests"), str(FOLDER.parent / "gateway" / "tests" / "sdk")]

from prometheus import Prometheus  # noqa: E402
from reprise_process import SMALL, Reprise, free_port  # noqa: E402
from timeline import draw  # noqa: E402

# Real time for a rule, and what stands for it here.
WINDOWS = {"2m": "5s", "5m": "10s", "10m": "12s", "15m": "12s", "30m": "15s", "1h": "20s", "6h": "40s", "1d": "120s"}
WAITS = "3s"

GATEWAY = """
[cache]
maintenance_interval_s = 1.0
[router]
policy = "static-threshold"
similarity_threshold = 0.75
deadline_ms = 20000
[resilience]
fallback = []
retries = 0
breaker_failures = 3
breaker_open_s = 2.0
breaker_longest_s = 4.0
longest_wait_s = 100000.0
"""
LARGE = """
[[tiers]]
name = "large"
base_url = "http://127.0.0.1:{port}/v1"
model = "small"
cost = 1.0
context_length = 8192
"""

# What each fault has to set off.
FAULTS = {
    "large tier killed": {"RepriseTierNotReady", "RepriseErrorRateHigh", "RepriseErrorBudgetBurnsFast"},
    "cache dropped": {"RepriseOffloadCollapsed"},
    "overload": {"RepriseQueueSaturated"},
}
COUNTRIES = ["Germany", "France", "Italy", "Spain", "Portugal", "Norway", "Poland", "Greece"]


def shortened(home: pathlib.Path) -> pathlib.Path:
    """The rules with every window and every `for:` made short."""
    for file in ("recording.yml", "alerts.yml"):
        text = (FOLDER / "rules" / file).read_text()
        text = re.sub(r"\[(\d+[mhd])\]", lambda found: f"[{WINDOWS[found[1]]}]", text)
        text = re.sub(r"(?m)^(\s+for: )\d+[mhd]$", rf"\g<1>{WAITS}", text)
        (home / "rules").mkdir(exist_ok=True)
        (home / "rules" / file).write_text(text)
    return home


class Load:
    """Two requests a second: near repeats that examples help with, and now and then one for the large tier by name."""

    def __init__(self, gateway: Reprise) -> None:
        self.gateway, self.ends = gateway, threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(2)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_failure) -> None:
        self.ends.set()
        for thread in self.threads:
            thread.join()

    def _run(self, worker: int) -> None:
        for number in itertools.count(worker):
            if self.ends.wait(1.0):
                return
            country = COUNTRIES[number % len(COUNTRIES)]
            named = number % 5 == 0
            self.gateway.chat(f"What is the capital of {country}? Round {number}.", model="large" if named else "auto", max_tokens=24)


class Watch:
    """The state of every alert, each second."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus, self.began, self.rows, self.phases = prometheus, time.monotonic(), [], []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def now(self) -> float:
        return time.monotonic() - self.began

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_failure) -> None:
        self.ends.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.ends.wait(1.0):
            for alert in self.prometheus.get("alerts").get("alerts", []):
                self.rows.append((round(self.now(), 1), alert["labels"]["alertname"], alert["labels"].get("tier", ""), alert["state"]))

    def firing(self) -> set[str]:
        last = self.now() - 2.5
        return {name for at, name, _, state in self.rows if at >= last and state == "firing"}

    def phase(self, name: str, least: float, until, most: float = 90.0) -> None:
        """For `least` seconds and until `until()`, but not for longer than `most`."""
        begins = self.now()
        print(f"{begins:6.1f} s  {name}", flush=True)
        while self.now() - begins < most and (self.now() - begins < least or not until()):
            time.sleep(0.5)
        self.phases.append((name, round(begins, 1), round(self.now(), 1)))


def overload(gateway: Reprise) -> list[threading.Thread]:
    """A minute of long prompts for the small tier."""
    text = "the quick brown fox jumps over the lazy dog and then " * 130
    sent = [threading.Thread(target=gateway.chat, args=(f"Text {n}: {text}", "small"), daemon=True,
                             kwargs={"max_tokens": 8, "headers": {"x-reprise-priority": "batch", "x-reprise-cache": "off"}}) for n in range(40)]
    for thread in sent:
        thread.start()
    return sent


def run(out: pathlib.Path) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        home = pathlib.Path(scratch)
        for name in ("large", "gateway", "prometheus"):
            (home / name).mkdir()
        large = Reprise(home / "large", SMALL.replace("threads = 2", "threads = 1") + "[cache]\nadmit = false\n")
        config = GATEWAY + SMALL + LARGE.format(port=large.port)
        # The same port again after its death.
        with (
            large,
            Reprise(home / "gateway", config) as gateway,
            Prometheus(home / "prometheus", [gateway.port], shortened(home)) as prometheus,
            Load(gateway), Watch(prometheus) as watch,
        ):
            play(watch, gateway, large)
            report(out, watch)
    missed = verdict(watch)
    print("\n".join(missed) or "every alert fired in its fault and ended after it")
    return 1 if missed else 0


def play(watch: Watch, gateway: Reprise, large: Reprise) -> None:
    quiet = lambda: not watch.firing() & set().union(*FAULTS.values())  # noqa: E731
    all_fire = lambda fault: lambda: FAULTS[fault] <= fired(watch, since)  # noqa: E731
    watch.phase("healthy", 45, quiet)
    since = watch.now()
    large.process.kill()
    large.process.wait()
    watch.phase("large tier killed", 30, all_fire("large tier killed"))
    large.__enter__()
    watch.phase("mended", 20, quiet)
    since = watch.now()
    ends = threading.Event()
    dropping = threading.Thread(target=drop_until, args=(gateway, ends))
    dropping.start()
    watch.phase("cache dropped", 20, all_fire("cache dropped"))
    ends.set()
    dropping.join()
    watch.phase("mended ", 20, quiet, 150)
    since = watch.now()
    stories = overload(gateway)
    watch.phase("overload", 10, all_fire("overload"))
    watch.phase("mended  ", 10, lambda: quiet() and not any(story.is_alive() for story in stories), 300)


def drop_until(gateway: Reprise, ends: threading.Event) -> None:
    """Again and again: what is answered in between would fill it at once."""
    while not ends.wait(0.5):
        gateway.call("DELETE", "/admin/v1/examples?tenant=default")


def fired(watch: Watch, since: float) -> set[str]:
    return {name for at, name, _, state in watch.rows if at >= since and state == "firing"}


def verdict(watch: Watch) -> list[str]:
    phases = {name: (begins, ends) for name, begins, ends in watch.phases}
    missed = []
    for fault, alerts in FAULTS.items():
        begins, ends = phases[fault]
        missed += [f"{alert} did not fire in: {fault}" for alert in sorted(alerts - fired(watch, begins))]
    last = watch.phases[-1][2] - 3
    missed += [f"{name} fires to the end" for name in sorted(fired(watch, last) & set().union(*FAULTS.values()))]
    return missed


def report(out: pathlib.Path, watch: Watch) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, head, rows in (("alerts.csv", ("seconds", "alert", "tier", "state"), watch.rows),
                             ("phases.csv", ("phase", "begins_s", "ends_s"), watch.phases)):
        with (out / name).open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    (out / "timeline.svg").write_text(draw(watch.phases, watch.rows))
    lines = ["| fault | began | alert | fired after | ended, after the fault was mended |", "|---|---|---|---|---|"]
    for fault, alerts in FAULTS.items():
        begins, ends = next((begins, ends) for name, begins, ends in watch.phases if name == fault)
        for alert in sorted(alerts):
            times = [at for at, name, _, state in watch.rows if name == alert and state == "firing" and at >= begins]
            first, last = (f"{times[0] - begins:.0f} s", f"{times[-1] - ends:.0f} s") if times else ("never", "")
            lines.append(f"| {fault} | {begins:.0f} s | {alert} | {first} | {last} |")
    (out / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(run(pathlib.Path(sys.argv[1])))
