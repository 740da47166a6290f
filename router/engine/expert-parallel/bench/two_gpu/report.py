#!/usr/bin/env python3
"""Tables of a run of `two_gpus`, as Markdown on standard output.

  report.py RUN_DIR.. [--reprise BINARY [--dense FILE.gguf]]

Several folders are parts of one run. With --reprise each cell is simulated too, over the times of calls that it measured of its own devices:
predictions.csv in the first of them. --dense: the small model's, of which mixtures were measured too; without it these are left out.
"""

import argparse
import csv
import json
import math
import pathlib
import statistics
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from predict import compare, general, simulate_all, whole  # noqa: E402

ORDER = ["lockstep", "lockstep+N", "pingpong", "mtfs", "flfs", "defrag", "roofline", "adaptive"]
# An adaptive one is below the best where it is at less than this share of it.
GOAL = 0.98


def read(folders):
    """Per cell the runs of each schedule."""
    cells = {}
    for folder in folders:
        with (folder / "raw.csv").open() as file:
            for row in csv.DictReader(file):
                cells.setdefault(row["cell"], {}).setdefault(general(row["scheduler"]), []).append(row)
    return cells


def mean(runs, field):
    found = [float(run[field]) for run in runs if run[field] != ""]
    return statistics.fmean(found) if found else float("nan")


def spread(cells):
    """By how much two runs of the same cell and schedule differ: a standard deviation, as a share, of all that were measured more than once."""
    squares = freedom = 0
    for runs in cells.values():
        for of in runs.values():
            speeds = [float(run["tokens_per_second"]) for run in of]
            if len(speeds) > 1:
                squares += sum((speed / statistics.fmean(speeds) - 1) ** 2 for speed in speeds)
                freedom += len(speeds) - 1
    return (squares / freedom) ** 0.5 if freedom else float("nan")


def interval(sd, *runs):
    """Half of the 95 % interval of a throughput, or of a ratio of two, as a share of it."""
    return 1.96 * sd * sum(1 / len(of) for of in runs) ** 0.5


def speed(runs):
    return mean(runs, "tokens_per_second")


def table(head, lines):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def plus(value, of=""):
    """Half of an interval, if it is known: of one run of each there is none."""
    return "" if math.isnan(value) else f" ± {value:.{1 if of else 2}f}{of}"


def throughput(cells):
    sd, lines, ratios = spread(cells), [], []
    names = [name for name in ORDER[1:] if any(name in runs for runs in cells.values())]
    for cell, runs in cells.items():
        if "lockstep" not in runs:
            continue
        base = speed(runs["lockstep"])
        line = [cell, f"{base:,.0f}{plus(100 * interval(sd, runs['lockstep']), ' %')}"]
        for name in names:
            ratio = speed(runs[name]) / base if name in runs else None
            line.append("" if ratio is None else f"{ratio:.2f}{plus(ratio * interval(sd, runs['lockstep'], runs[name]))} ({len(runs[name])})")
        others = {name: speed(of) for name, of in runs.items() if name != "adaptive"}
        if "adaptive" in runs:
            best = max(others, key=others.get)
            ratio = speed(runs["adaptive"]) / others[best]
            doubt = ratio * interval(sd, runs["adaptive"], runs[best])
            ratios.append((ratio, doubt))
            line.append(f"{ratio:.3f} ± {doubt:.3f}, {best}")
        lines.append(line)
    table(["cell", "lockstep, tokens/s", *names, *(["adaptive / best"] if ratios else [])], lines)
    print("Columns between: ratio to lockstep with its 95 % interval, and runs (lockstep+N: N copies of hot experts; adaptive has them too, and may do "
          "without).", end="")
    if not math.isnan(sd):
        print(f" Two runs of the same differ by {100 * sd:.1f} % (standard deviation over all that were measured more than once), from which all "
              "intervals are.", end="")
    if ratios:
        below = [one for one in ratios if one[0] < GOAL]
        clearly = [one for one in below if sum(one) < GOAL]
        surely = [one for one in ratios if one[0] - one[1] >= GOAL]
        print(f" Adaptive / best: median {statistics.median(one[0] for one in ratios):.3f}, least {min(ratios)[0]:.3f}; below {GOAL} in {len(below)} of "
              f"{len(ratios)} cells, in {len(clearly)} of them by more than the interval; above it by more than the interval in {len(surely)}.", end="")
    print("\n")


def fresh(cells):
    """Adaptive over the best of the others, each cell's best told by its first runs and compared by its second: the best of several noisy ones, compared
    by the runs that made it the best, would be flattered. Logarithms."""
    ratios = []
    for runs in cells.values():
        by_repeat = lambda name, repeat: next((float(run["tokens_per_second"]) for run in runs[name] if run["repeat"] == str(repeat)), None)
        others = {name: by_repeat(name, 0) for name in runs if name != "adaptive"}
        if "adaptive" not in runs or not others or None in others.values():
            continue
        best = max(others, key=others.get)
        both = by_repeat("adaptive", 1), by_repeat(best, 1)
        if None not in both:
            ratios.append(math.log(both[0] / both[1]))
    return ratios


def did(cells):
    """What adaptive did while it was measured, and what that is worth by the speeds of those who do nothing else."""
    lines, below = [], 0
    for cell, runs in cells.items():
        if "adaptive" not in runs or "lockstep" not in runs:
            continue
        speeds = {name: speed(of) for name, of in runs.items() if name != "adaptive"}
        share = {name: mean(runs["adaptive"], f"{name}_share") for name in ["pingpong", "free", "defrag", "copies"]}
        copies = share["copies"] if any("+" in run["scheduler"] for run in runs["adaptive"]) else 0
        lockstep = 1 - share["pingpong"] - share["free"] - share["defrag"]
        of_lockstep = copies * speeds.get("lockstep+N", 0) + (1 - copies) * speeds["lockstep"]
        worth = sum(share[name] * speeds.get(other, 0) for name, other in [("pingpong", "pingpong"), ("free", "roofline"), ("defrag", "defrag")])
        worth = (worth + lockstep * of_lockstep) / max(speeds.values())
        below += worth < GOAL
        percent = lambda value: f"{100 * value:.0f}" if value > 0.005 else ""
        lines.append([cell, percent(lockstep), *(percent(share[name]) for name in ["pingpong", "free", "defrag"]), percent(copies), f"{worth:.3f}"])
    table(["cell", "lockstep, %", "pingpong", "roofline", "defrag", "with copies", "worth / best"], lines)
    print("Share of the measured time, and the mean speed of schedules that do each all the time (with copies: lockstep+N), weighted by it, over the fastest "
          f"of them: below {GOAL} in {below} of {len(lines)} cells.")
    ratios = fresh(cells)
    if len(ratios) > 1:
        doubt = 1.96 * statistics.stdev(ratios) / len(ratios) ** 0.5
        print(f"\nThroughput of adaptive over the best of the others, told by first runs and compared by second runs of {len(ratios)} cells: geometric mean "
              f"{math.exp(statistics.fmean(ratios)):.3f} ± {doubt:.3f}, median {math.exp(statistics.median(ratios)):.3f}.")
    print()


def each(cells, title, text):
    names = [name for name in ORDER if any(name in runs for runs in cells.values())]
    table(["cell", *names], [[cell, *(text(runs[name]) if name in runs else "" for name in names)] for cell, runs in cells.items()])
    print(title + "\n")


def idle(runs):
    shares = [json.loads(run["idle_share"]) for run in runs]
    return " / ".join(f"{100 * statistics.fmean(device):.0f}" for device in zip(*shares))


def way(runs):
    hidden = mean(runs, "hidden_share")
    return (f"{mean(runs, 'bytes_per_second') / 1e9:.2f}; {mean(runs, 'writing_us'):.0f}, {mean(runs, 'packing_us'):.0f}, "
            f"{mean(runs, 'unpacking_us'):.0f}, {mean(runs, 'under_way_us'):.0f}; {100 * hidden:.0f} %")


def links(reports):
    """Payloads alone, by size; once for each model."""
    seen, lines = set(), []
    for report in reports:
        name = f"{pathlib.PurePath(report['model']).name}, {report['device']}"
        if name in seen:
            continue
        seen.add(name)
        for one in report["way"] or []:
            writing = one["writing_us"]
            rate = f"{one['bytes'] / writing / 1e3:.1f}" if writing else ""
            lines.append([name, f"{one['bytes']:,}", f"{writing:.1f}" if writing else "", rate, f"{one['hosts_us']:.1f}", f"{one['until_used_us']:.1f}"])
    table(["model, device", "bytes", "written, us", "GB/s", "hosts, us", "until used, us"], lines)
    print("A payload from the first device to the second with nothing else going on: written by the sender's device; handed over and taken in by the hosts; "
          "until a call of the receiver that needs it has ended, less that call alone.\n")


def predictions(binary, dense, folder, cells, reports):
    # Each schedule of a cell as it was measured first.
    first, seen = [], set()
    for report in reports:
        new = {(report["cell"], run["scheduler"]) for run in report["runs"]} - seen
        if new:
            seen |= new
            first.append(report)
    predicted = {}
    for report, of in zip(first, simulate_all(binary, first, dense)):
        for name, value in of.items():
            predicted.setdefault(report["cell"], {}).setdefault(name, value)
    measured = {cell: {name: speed(of[name]) for name in ORDER if name in of} for cell, of in cells.items()}
    compare(folder / "predictions.csv", predicted, measured, ORDER)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, nargs="+")
    parser.add_argument("--reprise")
    parser.add_argument("--dense", type=pathlib.Path)
    args = parser.parse_args()
    cells, reports = read(args.run), whole(args.run)
    print("## Throughput\n")
    throughput(cells)
    if any("adaptive" in runs for runs in cells.values()):
        print("## What adaptive did\n")
        did(cells)
    print("## Time between two tokens of a sequence\n")
    each(cells, "Milliseconds, p50 (p99).", lambda runs: f"{mean(runs, 'inter_token_ms_p50'):.2f} ({mean(runs, 'inter_token_ms_p99'):.1f})")
    print("## Idle share of each device\n")
    each(cells, "Percent of the time in which its thread is in no call; a call includes its launches and its wait for the device.", idle)
    print("## What the way between the devices costs\n")
    each(cells, "GB/s both ways together; microseconds of a payload: written by the sender's device, packed and unpacked by the hosts, from sent to taken "
         "in; share of the latter in which the receiver was computing.", way)
    links(reports)
    if args.reprise:
        print("## The simulator's prediction\n")
        predictions(args.reprise, args.dense, args.run[0], cells, reports)


if __name__ == "__main__":
    main()
