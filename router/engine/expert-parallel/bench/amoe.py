#!/usr/bin/env python3
"""AMoE's set-up (arXiv 2505.08944) in the simulator, over rooflines of an H100: `reprise bench expert-parallel --simulate`, cells side by side.

  amoe.py --reprise BINARY --out DIR [--skew X] [--jobs N] [--schedules A,B..] [--only TEXT] [--time-limit SECONDS]

--skew: of loads that were measured (`skew_of_loads` in a report). Virtual time: what else the machine does changes nothing. DIR/raw.csv has one row for
each run; `summary.py DIR` makes the tables. (CPU threads that compute: matrix.py.)
"""

import argparse
import json
import pathlib
import subprocess
import sys

import slices
from report import rows

ALL = ["lockstep", "pingpong", "mtfs", "flfs", "defrag", "roofline"]
FEW = ["lockstep", "pingpong", "defrag", "roofline"]
# Adaptive's looks at other modes are part of what it costs: measured for long enough to hold some of them, once it has found what pays.
ADAPTIVE = 20
ADAPTIVE_WARM_UP = 8
# Virtual seconds that are left out, and measured: of long sequences, whose contexts and prompts shift for that long, all that adaptive has.
TIMES = {"short": (2, 2), "medium": (4, 3), "long": (ADAPTIVE_WARM_UP, ADAPTIVE)}
LOADS = [0.3, 0.6, 0.9, 1.2]


def flags_of(model, attention, top_k, workload, skew, replicas, batch):
    flags = ["--model", model, "--devices", str(2 * attention), "--attention", str(attention), "--workload", workload,
             "--skew", str(skew), "--replicas", str(replicas), "--batch", str(batch), "--prefill-chunk", str(2 * batch)]
    return flags + (["--top-k", str(top_k)] if top_k else [])


def all_cells(skew):
    """Name, schedules, flags, and at which shares of lock-step's throughput requests come; none: as many at any time as fit."""
    gates = [("even", 0, False), (f"skew {skew:g}", skew, False), (f"skew {skew:g}, replicas", skew, True)]
    mixtral = "mixtral-8x7b"
    for attention in [4, 8]:
        for top_k in [1, 2]:
            for workload in ["short", "medium", "long"]:
                for name, value, replicated in gates:
                    flags = flags_of(mixtral, attention, top_k, workload, value, attention if replicated else 0, 256)
                    yield f"{attention}+{attention} top-{top_k} {workload} {name}", ALL if attention == 4 else FEW, flags, []
    for batch in [16, 64, 1024]:
        for name, value, _ in gates[:2]:
            flags = flags_of(mixtral, 4, 1, "short", value, 0, batch)
            yield f"4+4 top-1 short {name}, {batch} sequences a device", FEW, flags, []
    for name, straggler in [("attention", "0:1.5"), ("experts", "4:1.5")]:
        flags = [*flags_of(mixtral, 4, 1, "short", 0, 0, 256), "--straggler", straggler]
        yield f"4+4 top-1 short even, a device with {name} 1.5 times as slow", FEW, flags, []
    for model in ["olmoe-1b-7b", "qwen3-30b-a3b"]:
        for name, value, _ in gates[:2]:
            yield f"4+4 {model} top-8 short {name}", FEW, flags_of(model, 4, None, "short", value, 0, 128), []
    for workload in ["short", "medium", "long"]:
        flags = flags_of(mixtral, 4, 1, workload, skew, 0, 256)
        yield f"4+4 top-1 {workload} skew {skew:g}, Poisson", FEW, flags, LOADS


def run(binary, schedules, flags):
    warm_up, measured = TIMES[flags[flags.index("--workload") + 1]]
    if schedules == ["adaptive"]:
        warm_up, measured = max(warm_up, ADAPTIVE_WARM_UP), ADAPTIVE
    # Of requests that come by chance all see the same.
    if "--rate" in flags:
        measured = ADAPTIVE
    lengths = ["--seconds", str(measured), "--warm-up-seconds", str(warm_up)]
    command = [binary, "bench", "expert-parallel", "--simulate", "--json", "--scheduler", ",".join(schedules), *lengths, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def measure(binary, cell, profiles, asked):
    name, schedules, flags, loads = cell
    schedules = [schedule for schedule in schedules if schedule in asked]
    group = "poisson" if loads else "h100"
    top_k = flags[flags.index("--top-k") + 1] if "--top-k" in flags else 8

    def both(flags):
        if schedules:
            yield run(binary, schedules, flags)
        if "adaptive" in asked:
            yield run(binary, ["adaptive"], flags)

    if not loads:
        found = list(both(flags))
        profile = profiles / f"{found[0]['model']}-top-{top_k}.json"
        profile.write_text(json.dumps(found[0]["profile"], indent=1) + "\n")
        return [row for report in found for row in rows(group, name, report, top_k)]
    base = run(binary, ["lockstep"], flags)["runs"][0]["requests_per_second"]
    return [row for load in loads for report in both([*flags, "--rate", f"{load * base:.3f}"])
            for row in rows(group, f"{name} {load:g}", report, top_k)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reprise", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--skew", type=float, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="cells side by side")
    parser.add_argument("--schedules", default=",".join([*ALL, "adaptive"]), help="these alone")
    slices.add_arguments(parser)
    args = parser.parse_args()
    asked = args.schedules.split(",")
    unknown = sorted(set(asked) - {*ALL, "adaptive"})
    if unknown:
        parser.error(f"--schedules: no schedule {', '.join(unknown)}; there are {', '.join(ALL)} and adaptive")
    profiles = args.out / "profiles"
    profiles.mkdir(parents=True, exist_ok=True)
    # The longest first.
    wanted = [cell for cell in all_cells(args.skew) if not {*cell[1], "adaptive"}.isdisjoint(asked)]
    wanted.sort(key=lambda cell: (not cell[3], "8+8" not in cell[0]))
    # A cell under Poisson arrivals has a row's name for each load.
    names = lambda cell: [f"{cell[0]} {load:g}" for load in cell[3]] or [cell[0]]
    _, failed = slices.run(args, wanted, range(args.jobs), lambda cell, _: measure(args.reprise, cell, profiles, asked), names)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
