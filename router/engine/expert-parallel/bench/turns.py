#!/usr/bin/env python3
"""How adaptive compares with the best of the others, cell by cell, by turns in one cluster: two clusters of the same differ by 5 % on GPUs.

  turns.py --reprise BINARY --out DIR [--devices cuda:0,cuda:1 ..] [--attention N] [--dense FILE.gguf] [--seconds 1200] [--cell-seconds S] [--known RUN_DIR..] [--only TEXT]

Who is at less than 0.85 of its cell's best in the tables of --known has no turn among the others, which it would leave with scattered rows: it takes some with lock-step
afterwards. On GPUs the cells of `two_gpus`, on --devices cpu,cpu those of `matrix.py`; there --attention: the first N alone have attention, the others experts. First all cells, then again those whose interval still has 0.98 in it, as long as
there is time. Of several pairs of --devices each measures a cell, side by side. --known: run folders with the tables of all schedules.

DIR/turns.csv has a row for each turn, DIR/cells.jsonl the reports whole, with measured times of calls; `turns_report.py DIR` makes the tables.
"""

import argparse
import csv
import functools
import json
import pathlib
import re
import sys
import tempfile
import threading
import time

import matrix
from plan import Plan
from predict import general, is_adaptive
from process import Bench, Log, describe, upcycle
from turns_report import GOAL, estimate

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "two_gpu"))
import cells as two_gpu  # noqa: E402

FIELDS = ["cell", "sweep", "scheduler", "at_s", "seconds", "tokens", "prompt_rows", "pingpong_share", "free_share", "defrag_share", "copies_share"]
# Of the best: who is slower takes no turns with the others, or none again.
NEAR = 0.85
NEARER = 0.95
# Seconds: until adaptive has settled, of a turn, of all turns of a cell in the first sweep and in later ones, and what a cell takes besides.
GPU = {"warm_up": 8.0, "turn": 0.35, "all": 7.7, "again": 23.1}
CPU = {"warm_up": 12.0, "turn": 0.8, "all": 48.0, "again": 48.0}
CPU_WINDOW = "--control-window-seconds 0.1"
BESIDE = 4.5
# Rounds of those that are far from the best (a part of one for what a turn takes besides), and seconds before them.
FAR_ROUNDS = 3.3
FAR_WARM_UP = 2.0
# That a cell may take.
PATIENCE = 120


def gpu_cells(devices, made):
    for cell in two_gpu.cells(devices, made):
        # One GPU's streams have copies too, for whoever wants to know.
        copies = next((name.partition("+")[2] for name in cell["near"].split(",") if "+" in name), "")
        adaptive = f"adaptive+{copies}" if copies else "adaptive"
        contenders = [name for name in cell["near"].split(",") if not is_adaptive(name)] + ["roofline", "defrag", adaptive]
        yield {"name": cell["name"], "flags": cell["flags"], "contenders": contenders, "times": GPU}


def cpu_cells(devices, made, attention=None):
    roles = f"--attention {attention} " if attention else ""
    contenders = ["lockstep", "pingpong", "roofline", "defrag", "adaptive"]
    for name, _, flags in matrix.all_cells(made):
        yield {"name": name, "flags": f"--devices {devices} {roles}{' '.join(flags)} {CPU_WINDOW}", "contenders": contenders, "times": CPU}


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


def loads(cell):
    """What a process has to load for it."""
    words = cell["flags"].split()
    return tuple(words[words.index(flag) + 1] for flag in ["--model", "--devices", "--top-k"] if flag in words)


class Sweeps:
    def __init__(self, args, log, wanted, known):
        """`wanted`: cells by devices, the same names for all."""
        self.args, self.log, self.late = args, log, time.monotonic() + args.seconds
        self.cells = {devices: {cell["name"]: cell for cell in cells} for devices, cells in wanted.items()}
        self.known, self.done, self.failed = known, 0, False
        self.plan = Plan({name: loads(cell) for name, cell in next(iter(self.cells.values())).items()})
        # By cell.
        self.turns = {}
        # All of this is one place's at a time.
        self.changed = threading.Condition()

    def run(self, errors):
        with (self.args.out / "turns.csv").open("w", newline="") as table, (self.args.out / "cells.jsonl").open("w") as whole:
            self.table, self.whole, self.errors = table, whole, errors
            self.writer = csv.DictWriter(table, FIELDS)
            self.writer.writeheader()
            places = [threading.Thread(target=self.work, args=(devices,)) for devices in self.cells]
            for place in places:
                place.start()
            for place in places:
                place.join()

    def work(self, devices):
        bench = Bench(self.args.reprise, PATIENCE)
        try:
            while (taken := self.take(devices)) and self.one(bench, devices, *taken):
                pass
        finally:
            bench.stop()

    def one(self, bench, devices, name, sweep):
        """False: there is no time left."""
        found = {"error": "no report"}
        try:
            found = self.measure(bench, self.cells[devices][name], sweep)
            return found is not None
        finally:
            with self.changed:
                failed = found is not None and "error" in found
                self.failed |= failed
                self.plan.done(name, not failed)
                self.changed.notify_all()

    def take(self, devices):
        with self.changed:
            while (taken := self.plan.take(devices, self.is_open)) is None and self.plan.busy:
                self.changed.wait()
            return taken

    def is_open(self, name):
        found = estimate(self.turns[name]) if name in self.turns else None
        return found is not None and found.ratio - found.doubt < GOAL

    def measure(self, bench, cell, sweep):
        """The report; None if there is no time left."""
        name, times = cell["name"], cell["times"]
        known = self.known.get(name, {})
        contenders = near(cell["contenders"], known, NEAR)
        with self.changed:
            if name in self.turns:
                contenders = near(cell["contenders"], {**known, **estimate(self.turns[name]).speeds}, NEARER)
        turns = times["again"] if sweep else self.args.cell_seconds or times["all"]
        report = self.turns_of(bench, cell, sweep, contenders, times["warm_up"], turns)
        far = [name for name in cell["contenders"] if name not in contenders and not is_adaptive(name)]
        if far and not sweep and report and "error" not in report:
            far.insert(0, "lockstep")
            of_far = self.turns_of(bench, cell, "far", far, FAR_WARM_UP, FAR_ROUNDS * len(far) * times["turn"])
            report = of_far if of_far and "error" in of_far else report
        return report

    def turns_of(self, bench, cell, sweep, contenders, warm_up, turns):
        """The report; None if there is no time left."""
        name, left = cell["name"], self.late - time.monotonic()
        if left < warm_up + turns + BESIDE:
            return None
        flags = (f"{cell['flags']} --scheduler {','.join(contenders)} --turn-seconds {cell['times']['turn']} "
                 f"--adaptive-warm-up-seconds {warm_up} --seconds {turns:g}")
        begun = time.monotonic()
        report = bench.measure(f"{name.replace(' ', '-')} {flags}", left, self.errors)
        with self.changed:
            self.whole.write(json.dumps({**report, "cell": name, "sweep": sweep, "flags": flags}) + "\n")
            self.whole.flush()
            if "error" in report:
                self.log(f"{name} FAILED: {report['error']}")
            else:
                self.done += 1
                rows = [{"cell": name, "sweep": sweep, **turn} for turn in report["turns"]]
                self.writer.writerows(rows)
                self.table.flush()
                self.turns.setdefault(name, []).extend(rows)
                self.log(f"{sweep}: {name} ({time.monotonic() - begun:.1f} s): {estimate(self.turns[name])}")
        return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reprise", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=1200, help="of all")
    parser.add_argument("--cell-seconds", type=float, metavar="S", help="of turns of a cell when it is measured first")
    parser.add_argument("--devices", nargs="+", default=["cuda:0,cuda:1"], metavar="PAIR")
    parser.add_argument("--attention", type=int, metavar="N", help="CPU threads that have attention and no experts")
    parser.add_argument("--dense", type=pathlib.Path, help="the small model's GGUF, of which mixtures with the same function are made")
    parser.add_argument("--known", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--only", default="", help="cells in whose names this regular expression is found")
    args = parser.parse_args()
    if len({*args.devices}) < len(args.devices):
        parser.error("--devices names a pair twice")
    if args.attention and not args.devices[0].startswith("cpu"):
        parser.error("--attention is for CPU threads: cells of GPUs have it in their names")
    args.reprise = str(pathlib.Path(args.reprise).resolve())
    args.out.mkdir(parents=True, exist_ok=True)
    log = Log(args.out / "machine.txt")
    describe(log, args.reprise)
    with tempfile.TemporaryDirectory(prefix="turns-") as scratch:
        scratch = pathlib.Path(scratch)
        made = upcycle(args.reprise, args.dense, scratch) if args.dense else {}
        is_cpu = args.devices[0].startswith("cpu")
        cells = functools.partial(cpu_cells, attention=args.attention) if is_cpu else gpu_cells
        wanted = {devices: [cell for cell in cells(devices, made) if re.search(args.only, cell["name"])] for devices in args.devices}
        sweeps = Sweeps(args, log, wanted, known_speeds(args.known))
        with (scratch / "errors.txt").open("w") as errors:
            sweeps.run(errors)
        said = (scratch / "errors.txt").read_text()[-4000:]
    log(f"{sweeps.done} measurements of {len(sweeps.turns)} of {len(sweeps.plan.loads)} cells" + (f"; standard error ends with:\n{said}" if said else ""))
    sys.exit(1 if sweeps.failed else 0)


if __name__ == "__main__":
    main()
