#!/usr/bin/env python3
"""All schedules of expert parallelism on CPU threads, cell by cell, with the simulator's prediction beside each cell.

  matrix.py --reprise BINARY --out DIR [--cores 0-15] [--dense FILE.gguf] [--only TEXT] [--time-limit SECONDS] [--repeats 3] [--seconds 2]

A cell is two devices of one thread each, pinned to two cores of its own; cells run side by side, one on every two of --cores. Within a cell the
schedules take turns, all of them once, then all again. The simulator runs over the times that the cell measured of its own device just before.
--dense: a llama GGUF file, of which mixtures of experts with the same function are made (`reprise models upcycle`): cells of a real model.

DIR/raw.csv has one row for each run, DIR/profiles the measured times and, of a model's own gates, what came to each expert. `summary.py DIR` makes the tables.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import slices
from process import upcycle
from report import rows

# All but adaptive, whose first two rounds of looks at all paces are not what it settles on: it gets longer.
SCHEDULES = ["lockstep", "pingpong", "mtfs", "flfs", "defrag", "roofline"]
WARM_UP = 0.5
ADAPTIVE = {"warm_up": 10.0, "seconds": 3.0}
GATES = {"uniform": ["--skew", "0"], "natural": [], "skewed": ["--skew", "3"]}
LOADS = {
    "decode": ["--workload", "tiny", "--batch", "32", "--prefill-chunk", "64"],
    "mixed": ["--workload", "medium", "--batch", "16", "--prefill-chunk", "64"],
}


def all_cells(made):
    """Name, top-k and flags."""
    for experts in [8, 64]:
        for top_k in [1, 2]:
            for gates, gate_flags in GATES.items():
                for load, load_flags in LOADS.items():
                    model = f"random:olmoe-mini-{experts}x{top_k}"
                    yield f"{experts}x{top_k} {gates} {load}", top_k, ["--model", model, *gate_flags, *load_flags]
    for (experts, top_k), path in made.items():
        for load, flags in LOADS.items():
            yield f"SmolLM2 {experts}x{top_k} natural {load}", top_k, ["--model", str(path), *flags]


def cores(text):
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


class Bench:
    def __init__(self, reprise, pair):
        self.start = ["taskset", "-c", ",".join(map(str, pair)), reprise, "bench", "expert-parallel", "--devices", "2", "--json", "--details"]

    def run(self, schedules, flags, warm_up, seconds, repeats=1):
        times = ["--warm-up-seconds", str(warm_up), "--seconds", str(seconds), "--repeats", str(repeats)]
        command = [*self.start, "--scheduler", ",".join(schedules), *times, *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)


def measure(bench, cell, args, profiles):
    name, top_k, flags = cell
    schedules = [one for one in SCHEDULES if one in args.schedules]
    real = bench.run(schedules, flags, WARM_UP, args.seconds, args.repeats)
    file = name.replace(" ", "-")
    profile = profiles / f"{file}.json"
    profile.write_text(json.dumps(real["profile"], indent=1) + "\n")
    flags = [*flags, "--profile", str(profile)]
    came = []
    if real.get("loads"):
        loads = profiles / f"{file}-loads.json"
        loads.write_text(json.dumps(real["loads"]) + "\n")
        came = ["--loads", str(loads)]
    found = [*rows("cpu", name, real, top_k)]
    # At the same age: prompts are short at first (`job_at_start`).
    simulated = [(schedules, {"warm_up": WARM_UP, "seconds": args.seconds})]
    if "adaptive" in args.schedules:
        found += rows("cpu", name, bench.run(["adaptive"], flags, **ADAPTIVE, repeats=args.repeats), top_k)
        simulated.append((["adaptive"], ADAPTIVE))
    for schedules, times in simulated:
        found += rows("simulated-cpu", name, bench.run(schedules, [*flags, *came, "--simulate"], **times, repeats=args.repeats), top_k)
    return found


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores, Linux {platform.release()}"
    return platform.platform()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reprise", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--cores", type=cores, default=list(range(os.cpu_count() or 2)))
    parser.add_argument("--dense", type=pathlib.Path)
    parser.add_argument("--schedules", nargs="+", default=[*SCHEDULES, "adaptive"], choices=[*SCHEDULES, "adaptive"], metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="measured, of each run")
    slices.add_arguments(parser)
    args = parser.parse_args()
    begun = time.monotonic()
    profiles = args.out / "profiles"
    profiles.mkdir(parents=True, exist_ok=True)
    made = upcycle(args.reprise, args.dense, args.out) if args.dense else {}
    pairs = [args.cores[at:at + 2] for at in range(0, len(args.cores) - 1, 2)]
    if not pairs:
        sys.exit("two cores at least")
    bench = lambda cell, pair: measure(Bench(args.reprise, pair), cell, args, profiles)
    count, failed = slices.run(args, all_cells(made), pairs, bench)
    for path in made.values():
        path.unlink()
    shape = f"{count} cells, {len(pairs)} side by side on two cores each, {args.repeats} repeats of {args.seconds} s"
    with (args.out / "machine.txt").open("a") as file:
        file.write(f"{machine()}\n{shape}\n{time.monotonic() - begun:.0f} s of wall time\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
