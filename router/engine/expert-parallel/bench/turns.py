#!/usr/bin/env python3
"""How adaptive compares with the best of the others, cell by cell, by turns in one cluster: two clusters of the same differ by 5 % on GPUs.

  turns.py --reprise BINARY --out DIR [--devices cuda:0,cuda:1] [--dense FILE.gguf] [--seconds 1200] [--known RUN_DIR..] [--only TEXT]

On GPUs the cells of `two_gpus`, on --devices cpu,cpu those of `matrix.py`. First all cells, then again those whose interval still has 0.98 in it, as long as
there is time. --known: run folders with the tables of all schedules; who is at less than 0.85 of its cell's best there takes no turns.

DIR/turns.csv has a row for each turn, DIR/cells.jsonl the reports whole, with measured times of calls; `turns_report.py DIR` makes the tables.
"""

import argparse
import csv
import itertools
import json
import pathlib
import re
import sys
import tempfile
import time

import matrix
import slices
from predict import general, is_adaptive
from process import Bench, Log, describe, upcycle
from turns_report import GOAL, estimate

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "two_gpu"))
import cells as two_gpu  # noqa: E402

FIELDS = ["cell", "sweep", "scheduler", "at_s", "seconds", "tokens", "prompt_rows", "pingpong_share", "free_share", "defrag_share", "copies_share"]
# Of the best: who is slower takes no turns, or none again.
NEAR = 0.85
NEARER = 0.95
# Seconds: until adaptive has settled, of a turn, of all turns of a cell in the first sweep and in later ones, and what a cell takes besides.
GPU = {"warm_up": 8.0, "turn": 0.35, "all": 7.7, "again": 23.1}
CPU = {"warm_up": 12.0, "turn": 0.8, "all": 48.0, "again": 48.0}
CPU_WINDOW = "--control-window-seconds 0.1"
BESIDE = 4.5
# That a cell may take.
PATIENCE = 120


def gpu_cells(devices, made):
    """Grouped by what is loaded, so that each is loaded once in a sweep."""
    groups = {}
    for cell in two_gpu.cells(devices, made):
        words = cell["flags"].split()
        # One GPU's streams have copies too, for whoever wants to know.
        copies = next((name.partition("+")[2] for name in cell["near"].split(",") if "+" in name), "")
        adaptive = f"adaptive+{copies}" if copies else "adaptive"
        contenders = [name for name in cell["near"].split(",") if not is_adaptive(name)] + [adaptive]
        model = [words[words.index(flag) + 1] for flag in ["--model", "--devices", "--top-k"] if flag in words]
        groups.setdefault(tuple(model), []).append({"name": cell["name"], "flags": cell["flags"], "contenders": contenders, "times": GPU})
    return [cell for group in groups.values() for cell in group]


def cpu_cells(devices, made):
    contenders = ["lockstep", "pingpong", "roofline", "defrag", "adaptive"]
    for name, _, flags in matrix.all_cells(made):
        yield {"name": name, "flags": f"--devices {devices} {' '.join(flags)} {CPU_WINDOW}", "contenders": contenders, "times": CPU}


def known_speeds(folders):
    """By cell and schedule, of measured runs."""
    speeds = {}
    for folder in folders:
        with (folder / "raw.csv").open() as file:
            for row in csv.DictReader(file):
                if not row.get("group", "").startswith("simulated"):
                    speeds.setdefault(row["cell"], {}).setdefault(general(row["scheduler"]), []).append(float(row["tokens_per_second"]))
    return {cell: {name: sum(all_of) / len(all_of) for name, all_of in of.items()} for cell, of in speeds.items()}


def near(contenders, speeds, share):
    """Adaptive, and whose speed is not known to be far from the best."""
    best = max((speed for name, speed in speeds.items() if not is_adaptive(name)), default=0)
    return [name for name in contenders if is_adaptive(name) or speeds.get(general(name), best) >= share * best]


class Sweeps:
    def __init__(self, args, log, wanted, known):
        self.args, self.log, self.late = args, log, time.monotonic() + args.seconds
        self.bench, self.done, self.failed = Bench(args.reprise, PATIENCE), 0, False
        self.wanted = [{**cell, "contenders": near(cell["contenders"], known.get(cell["name"], {}), NEAR)} for cell in wanted]
        # By cell.
        self.turns = {}

    def run(self, errors):
        with (self.args.out / "turns.csv").open("w", newline="") as table, (self.args.out / "cells.jsonl").open("w") as whole:
            self.table, self.whole, self.errors = table, whole, errors
            self.writer = csv.DictWriter(table, FIELDS)
            self.writer.writeheader()
            for sweep in itertools.count():
                cells = [cell for cell in self.wanted if sweep == 0 or self.is_open(cell["name"])]
                if not any([self.measure(cell, sweep) for cell in cells]):
                    break
        self.bench.stop()

    def is_open(self, name):
        found = estimate(self.turns[name]) if name in self.turns else None
        return found is not None and found.ratio - found.doubt < GOAL

    def measure(self, cell, sweep):
        """False: there is no time left, or it failed."""
        name, times, contenders = cell["name"], cell["times"], cell["contenders"]
        if name in self.turns:
            contenders = near(contenders, estimate(self.turns[name]).speeds, NEARER)
        left, turns = self.late - time.monotonic(), times["again" if sweep else "all"]
        if left < times["warm_up"] + turns + BESIDE:
            return False
        flags = (f"{cell['flags']} --scheduler {','.join(contenders)} --turn-seconds {times['turn']} "
                 f"--adaptive-warm-up-seconds {times['warm_up']} --seconds {turns}")
        begun = time.monotonic()
        report = self.bench.measure(f"{name.replace(' ', '-')} {flags}", left, self.errors)
        self.whole.write(json.dumps({**report, "cell": name, "sweep": sweep, "flags": flags}) + "\n")
        self.whole.flush()
        if "error" in report:
            self.failed = True
            self.log(f"{name} FAILED: {report['error']}")
            return False
        self.done += 1
        rows = [{"cell": name, "sweep": sweep, **turn} for turn in report["turns"]]
        self.writer.writerows(rows)
        self.table.flush()
        self.turns.setdefault(name, []).extend(rows)
        self.log(f"{sweep}: {name} ({time.monotonic() - begun:.1f} s): {estimate(self.turns[name])}")
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reprise", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=1200, help="of all")
    parser.add_argument("--devices", default="cuda:0,cuda:1")
    parser.add_argument("--dense", type=pathlib.Path, help="the small model's GGUF, of which mixtures with the same function are made")
    parser.add_argument("--known", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--only", default="", help="cells in whose names this regular expression is found")
    slices.add_part(parser)
    args = parser.parse_args()
    args.reprise = str(pathlib.Path(args.reprise).resolve())
    args.out.mkdir(parents=True, exist_ok=True)
    log = Log(args.out / "machine.txt")
    describe(log, args.reprise)
    with tempfile.TemporaryDirectory(prefix="turns-") as scratch:
        scratch = pathlib.Path(scratch)
        made = upcycle(args.reprise, args.dense, scratch) if args.dense else {}
        cells = cpu_cells if args.devices.startswith("cpu") else gpu_cells
        wanted = args.part.of([cell for cell in cells(args.devices, made) if re.search(args.only, cell["name"])])
        sweeps = Sweeps(args, log, wanted, known_speeds(args.known))
        with (scratch / "errors.txt").open("w") as errors:
            sweeps.run(errors)
        said = (scratch / "errors.txt").read_text()[-4000:]
    log(f"{sweeps.done} measurements of {len(sweeps.turns)} of {len(wanted)} cells" + (f"; standard error ends with:\n{said}" if said else ""))
    sys.exit(1 if sweeps.failed else 0)


if __name__ == "__main__":
    main()
