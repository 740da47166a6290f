"""What schedules are called in tables, and what the simulator predicts of measured cells."""

import concurrent.futures
import csv
import itertools
import json
import lzma
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from process import upcycle

WITHIN = 0.15
# Each is simulated so often, by other chances of how long a call takes: schedules that wait for rows go one way or the other by little.
REPEATS = 3
# Schedules that differ by less are taken for equal when their order is compared.
TIE = 0.05


def general(scheduler):
    """Whatever the number of copies; adaptive may do without."""
    name, copies, _ = scheduler.partition("+")
    return f"{name}+N" if copies and not is_adaptive(name) else name


def is_adaptive(scheduler):
    return scheduler.startswith("adaptive")


def whole(folders):
    """All reports, but for those of cells that failed. Of committed runs they are packed."""
    reports = [json.loads(line) for folder in folders for line in lines(folder / "cells.jsonl")]
    return [report for report in reports if "error" not in report]


def lines(path):
    packed = path.with_name(path.name + ".xz")
    with path.open() if path.exists() else lzma.open(packed, "rt") as file:
        yield from file


def simulate_all(binary, reports, dense=None):
    """Throughput by schedule, of each. `dense`: the small model, of which mixtures were measured too; without it they are left out."""
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        scratch = pathlib.Path(scratch)
        made = {path.name: path for path in upcycle(binary, dense, scratch).values()} if dense else {}
        return list(pool.map(lambda one: simulate(binary, one[1], scratch, one[0], made), enumerate(reports)))


def simulate(binary, report, folder, at, made):
    """Throughput by schedule. `made`: files of the mixtures that were measured, by name (`process.upcycle`); others are left out."""
    flags = report["flags"].split()
    named = flags.index("--model") + 1
    model = flags[named]
    loads = report.get("loads")
    if model.endswith(".gguf"):
        file = made.get(pathlib.Path(model).name)
        if file is None:
            return {}
        flags[named] = str(file)
    else:
        shapes = {"random:mixtral-8x7b": "mixtral-8x7b", "random:olmoe-1b-7b": "olmoe-1b-7b"}
        flags[named] = shapes.get(model, model)
        if report["gates"] == "natural" and not loads:
            # Of weights that are not there: loads that fall as steeply.
            flags += ["--skew", str(report["skew_of_loads"])]
    if loads:
        path = folder / f"{at}-loads.json"
        path.write_text(json.dumps(loads))
        flags += ["--loads", str(path)]
    profile = folder / f"{at}.json"
    profile.write_text(json.dumps(report["profile"]))
    # Each is simulated alone.
    if "--turn-seconds" in flags:
        at = flags.index("--turn-seconds")
        del flags[at:at + 2]
    command = [binary, "bench", "expert-parallel", "--simulate", "--profile", str(profile), *flags, "--repeats", str(REPEATS)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{report['cell']}: {done.stderr[-400:]}", file=sys.stderr)
        return {}
    speeds = {}
    for run in json.loads(done.stdout)["runs"]:
        speeds.setdefault(general(run["scheduler"]), []).append(run["tokens_per_second"])
    return {name: statistics.fmean(of) for name, of in speeds.items()}


def compare(path, predicted, measured, order):
    """Both tokens per second by cell and schedule. Every prediction beside what was measured goes to `path`, a table to standard output."""
    order = [name for name in order if any(name in of for of in measured.values())]
    print("| cell | " + " | ".join(order) + " |\n|---|" + "---|" * len(order))
    errors, right, pairs = {}, 0, 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "scheduler", "predicted_tokens_per_second", "measured_tokens_per_second", "error"])
        for cell, of in measured.items():
            both = {name: (predicted[cell][name], of[name]) for name in order if name in of and name in predicted.get(cell, {})}
            if not both:
                continue
            found = {name: one / other - 1 for name, (one, other) in both.items()}
            writer.writerows([cell, name, *both[name], error] for name, error in found.items())
            errors.setdefault("one GPU" if cell.startswith("one-gpu") else "two devices", []).extend(found.values())
            print(f"| {cell} | " + " | ".join(f"{100 * found[name]:+.0f} %" if name in found else "" for name in order) + " |")
            differ = [pair for pair in itertools.combinations(both.values(), 2) if abs(pair[0][1] / pair[1][1] - 1) > TIE]
            pairs += len(differ)
            right += sum((one[0] > other[0]) == (one[1] > other[1]) for one, other in differ)
    print("\nThroughput, simulated less measured.", end="")
    for where, of in errors.items():
        sizes = sorted(map(abs, of))
        within = sum(size <= WITHIN for size in sizes)
        print(f" {where[0].upper()}{where[1:]}: {within} of {len(sizes)} within {100 * WITHIN:.0f} %, median {100 * statistics.median(sizes):.0f} %, "
              f"largest {100 * sizes[-1]:.0f} %.", end="")
    print(f" Of two schedules of a cell that differ by more than {100 * TIE:.0f} % the faster is told rightly in {right} of {pairs} pairs.\n")
