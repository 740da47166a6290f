#!/usr/bin/env python3
"""Tables of runs of `turns.py`, as Markdown on standard output.

  turns_report.py DIR.. [--reprise BINARY [--dense FILE.gguf]]

With --reprise each cell is simulated too, over the times of calls that it measured of its own devices: predictions.csv in the first folder.
--dense: the small model's, of which mixtures were measured too.
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import json
import math
import os
import pathlib
import statistics
import sys
import tempfile

from predict import compare, general, is_adaptive, simulate
from process import upcycle

# Adaptive is below the best where it is at less than this share of it.
GOAL = 0.98
ORDER = ["lockstep", "lockstep+N", "pingpong", "roofline", "defrag"]


@dataclasses.dataclass
class Estimate:
    """Of a cell. Speeds in tokens per second, prompts' rows counted as so many tokens each; ratio of adaptive's to the best of the others."""

    speeds: dict
    turns: dict
    prompt_row: float
    # Standard deviation of a comparison, as a share.
    spread: float
    best: str
    ratio: float
    # Half of the 95 % interval.
    doubt: float

    def __str__(self):
        others = ", ".join(f"{name} {speed:,.0f}" for name, speed in self.speeds.items())
        return f"{self.ratio:.3f} ± {self.doubt:.3f} of {self.best}; {others}"


def work(turn, prompt_row):
    """The logarithm of a turn's speed; none: nothing came out."""
    seconds, tokens, prompt = (float(turn[field]) for field in ["seconds", "tokens", "prompt_rows"])
    done = tokens + prompt_row * prompt
    return math.log(done / seconds) if seconds > 0 and done > 0 else None


def logarithms(turns, prompt_row):
    """Of the turns' speeds, by schedule."""
    found = {}
    for turn in turns:
        value = work(turn, prompt_row)
        if value is not None:
            found.setdefault(general(turn["scheduler"]), []).append(value)
    return found


def comparisons(turns, prompt_row):
    """Of each turn of another the logarithm of its speed over that of adaptive's turns just before and after, by schedule: what the machine does for
    longer than a turn is in both."""
    found = {}
    ordered = sorted(turns, key=lambda turn: (int(turn["sweep"]), float(turn["at_s"])))
    for before, turn, after in zip([None, *ordered], ordered, [*ordered[1:], None]):
        if is_adaptive(turn["scheduler"]):
            continue
        beside = [work(other, prompt_row) for other in (before, after)
                  if other and is_adaptive(other["scheduler"]) and int(other["sweep"]) == int(turn["sweep"])]
        beside = [value for value in beside if value is not None]
        value = work(turn, prompt_row)
        if beside and value is not None:
            found.setdefault(general(turn["scheduler"]), []).append(value - statistics.fmean(beside))
    return found


def squares(found):
    return sum((value - statistics.fmean(of)) ** 2 for of in found.values() for value in of)


def estimate(turns):
    """None: it cannot be told. A row of a prompt counts as that share of a token by which turns of the same schedule differ least: what comes of
    prompts by chance must not count as speed."""
    prompt_row = min((step / 20 for step in range(21)), key=lambda share: squares(logarithms(turns, share)))
    found, compared = logarithms(turns, prompt_row), comparisons(turns, prompt_row)
    freedom = sum(len(of) - 1 for of in compared.values())
    if freedom < 1:
        return None
    spread = (squares(compared) / freedom) ** 0.5
    best = max(compared, key=lambda name: statistics.fmean(compared[name]))
    ratio = math.exp(-statistics.fmean(compared[best]))
    # Student's t at 95 %, to a hundredth from five degrees of freedom on.
    student = 1.96 + 2.8 / freedom
    doubt = ratio * student * spread / len(compared[best]) ** 0.5
    speeds = {name: math.exp(statistics.fmean(of)) for name, of in found.items()}
    return Estimate(speeds, {name: len(of) for name, of in found.items()}, prompt_row, spread, best, ratio, doubt)


def read(folders):
    """Turns by cell."""
    cells = {}
    for folder in folders:
        with (folder / "turns.csv").open() as file:
            for row in csv.DictReader(file):
                cells.setdefault(row["cell"], []).append(row)
    return cells


def shares(turns):
    """What adaptive did, in percent of its time."""
    own = [turn for turn in turns if is_adaptive(turn["scheduler"])]
    mean = lambda field: 100 * statistics.fmean(float(turn[field]) for turn in own)
    of = {"ping-pong": mean("pingpong_share"), "roofline": mean("free_share"), "defrag": mean("defrag_share")}
    of = {"lock-step": 100 - sum(of.values()), **of}
    if any("+" in turn["scheduler"] for turn in own):
        of["with copies"] = mean("copies_share")
    return ", ".join(f"{name} {share:.0f}" for name, share in of.items() if share >= 0.5)


def throughput(cells):
    found = {cell: estimate(turns) for cell, turns in cells.items()}
    print("| cell | lockstep, tokens/s | " + " | ".join(ORDER[1:]) + " | adaptive / best | turns | a comparison's spread | a prompt's row | adaptive's time, % |")
    print("|---|---|" + "---|" * (len(ORDER) + 4))
    for cell, of in found.items():
        if of is None:
            continue
        base = of.speeds.get("lockstep")
        ratios = [f"{of.speeds[name] / base:.3f}" if base and name in of.speeds else "" for name in ORDER[1:]]
        speed = f"{base:,.0f}" if base else ""
        print(f"| {cell} | {speed} | " + " | ".join(ratios) + f" | {of.ratio:.3f} ± {of.doubt:.3f}, {of.best} | {of.turns['adaptive']} + "
              f"{of.turns[of.best]} | {100 * of.spread:.1f} % | {of.prompt_row:.2f} | {shares(cells[cell])} |")
    told = [of for of in found.values() if of]
    if not told:
        sys.exit("no cell can be told")
    at_least = [of for of in told if of.ratio - of.doubt >= GOAL]
    below = [of for of in told if of.ratio + of.doubt < GOAL]
    by_point = [of for of in told if of.ratio < GOAL]
    logs = [math.log(of.ratio) for of in told]
    mean = 1.96 * statistics.stdev(logs) / len(logs) ** 0.5 if len(logs) > 1 else float("nan")
    print(f"\nColumns between: ratio to lockstep. Turns: of adaptive and of the best. A prompt's row counts as that share of a token. "
          f"Each turn of another is compared with adaptive's just before and after it; intervals: 95 %, from the spread of these comparisons.\n\nAdaptive over the best of the others in {len(told)} cells: at least {GOAL} beyond its interval in "
          f"{len(at_least)}, below it beyond its interval in {len(below)}, by its point estimate in {len(by_point)}; least {min(of.ratio for of in told):.3f}, "
          f"median {statistics.median(of.ratio for of in told):.3f}, geometric mean {math.exp(statistics.fmean(logs)):.3f} ± {mean:.3f}.\n")


def measured(cells):
    """Tokens per second by cell and schedule, of all turns together."""
    found = {}
    for cell, turns in cells.items():
        sums = {}
        for turn in turns:
            of = sums.setdefault(general(turn["scheduler"]), [0, 0])
            of[0] += float(turn["tokens"])
            of[1] += float(turn["seconds"])
        found[cell] = {name: tokens / seconds for name, (tokens, seconds) in sums.items() if seconds}
    return found


def predictions(binary, dense, folders, cells):
    reports = {}
    for folder in folders:
        for line in (folder / "cells.jsonl").open():
            report = json.loads(line)
            if "error" not in report:
                reports.setdefault(report["cell"], report)
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        scratch = pathlib.Path(scratch)
        made = {path.name: path for path in upcycle(binary, dense, scratch).values()} if dense else {}
        work = [(binary, report, scratch, at, made) for at, report in enumerate(reports.values())]
        predicted = dict(zip(reports, pool.map(lambda one: simulate(*one), work)))
    compare(folders[0] / "predictions.csv", predicted, measured(cells), [*ORDER, "adaptive"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, nargs="+")
    parser.add_argument("--reprise")
    parser.add_argument("--dense", type=pathlib.Path)
    args = parser.parse_args()
    cells = read(args.run)
    throughput(cells)
    if args.reprise:
        predictions(args.reprise, args.dense, args.run, cells)


if __name__ == "__main__":
    main()
