#!/usr/bin/env python3
"""Tables of DIR/raw.csv as Markdown, on standard output: `summary.py DIR`."""

import csv
import math
import pathlib
import statistics
import sys

from predict import WITHIN

ORDER = ["lockstep", "pingpong", "mtfs", "flfs", "defrag", "roofline", "adaptive"]
# Throughputs nearer than this are taken for equal when orders are compared.
TIE = 0.03


# Two-sided 95 % of Student's t, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57}


def read(folder):
    """Per group and cell the runs of each scheduler."""
    groups = {}
    with (pathlib.Path(folder) / "raw.csv").open() as file:
        for row in csv.DictReader(file):
            cell = groups.setdefault(row["group"], {}).setdefault(row["cell"], {})
            cell.setdefault(row["scheduler"], []).append(row)
    return groups


def mean(runs, field):
    return statistics.fmean(float(run[field]) for run in runs)


def speed(runs):
    return mean(runs, "tokens_per_second")


def interval(runs):
    """Half of the 95 % interval of the mean throughput, as a share of it; none of a single run."""
    if len(runs) < 2:
        return None
    speeds = [float(run["tokens_per_second"]) for run in runs]
    half = STUDENT.get(len(runs) - 1, 2.0) * statistics.stdev(speeds) / len(runs) ** 0.5
    return half / statistics.fmean(speeds)


def throughput(cells):
    print("| cell | lockstep, tokens/s | " + " | ".join(ORDER[1:]) + " | adaptive / better of lockstep and defrag | widest interval | balance |")
    print("|---|---|" + "---|" * (len(ORDER) + 2))
    ratios_of_adaptive = []
    for cell, runs in cells.items():
        base = speed(runs["lockstep"])
        ratios = [f"{speed(runs[name]) / base:.2f}" if name in runs else "" for name in ORDER[1:]]
        adaptive = ""
        if "adaptive" in runs and "defrag" in runs:
            ratios_of_adaptive.append(speed(runs["adaptive"]) / max(base, speed(runs["defrag"])))
            adaptive = f"{ratios_of_adaptive[-1]:.3f}"
        intervals = [interval(runs[name]) for name in ORDER if name in runs and interval(runs[name]) is not None]
        widest = f"± {100 * max(intervals):.0f} %" if intervals else ""
        balance = mean(runs["lockstep"], "balance_mean_over_max")
        print(f"| {cell} | {base:,.0f} | " + " | ".join(ratios) + f" | {adaptive} | {widest} | {balance:.2f} |")
    print("\nColumns between: ratio to lockstep.", end="")
    if ratios_of_adaptive:
        print(f" Adaptive's worst cell: {min(ratios_of_adaptive):.3f}.", end="")
    print("\n")


def latency(cells):
    print("| cell | " + " | ".join(ORDER) + " |")
    print("|---|" + "---|" * len(ORDER))
    for cell, runs in cells.items():
        of = lambda name: f"{mean(runs[name], 'inter_token_ms_mean'):.2f} ({mean(runs[name], 'inter_token_ms_p99'):.1f})"
        print(f"| {cell} | " + " | ".join(of(name) if name in runs else "" for name in ORDER) + " |")
    print("\nMean time between two tokens of a sequence in ms (99th percentile).\n")


def shapes(cells):
    print("| cell | " + " | ".join(ORDER) + " |")
    print("|---|" + "---|" * len(ORDER))
    for cell, runs in cells.items():
        of = lambda name: (f"{mean(runs[name], 'mean_parts_per_expert_call'):.1f}, "
                           f"{100 * mean(runs[name], 'idle_share_mean'):.0f} %")
        print(f"| {cell} | " + " | ".join(of(name) if name in runs else "" for name in ORDER) + " |")
    print("\nMean parts in a call of experts (in lock-step, of all experts of a device together), mean idle share of the devices.\n")


def doubt(rows):
    """Half of the 95 % interval of a schedule's mean throughput in a cell, as a logarithm, by how runs of the same differ there; 0 of single runs."""
    logs = [[math.log(float(run["tokens_per_second"])) for run in of] for of in rows.values()]
    freedom = sum(len(of) - 1 for of in logs)
    if not freedom:
        return 0.0
    squares = sum((value - statistics.fmean(of)) ** 2 for of in logs for value in of)
    return STUDENT.get(freedom, 2.0) * (squares / freedom / statistics.fmean(map(len, logs))) ** 0.5


def against(real, simulated):
    print("| cell | " + " | ".join(ORDER) + " | order of pairs that differ | that are told apart |")
    print("|---|" + "---|" * (len(ORDER) + 2))
    errors, surely, counts = [], 0, [0] * 4
    for cell, rows in real.items():
        if cell not in simulated:
            continue
        other = simulated[cell]
        error = {name: speed(other[name]) / speed(rows[name]) - 1 for name in ORDER if name in rows and name in other}
        errors += error.values()
        half = doubt(rows)
        surely += sum(abs(math.log1p(one)) - half > -math.log1p(-WITHIN) for one in error.values())
        # Of a ratio of two.
        apart = max(1 + TIE, math.exp(2**0.5 * half))
        # Of pairs that differ, those whose order is right, and all; the same of pairs that are told apart.
        pairs = [0] * 4
        for i, a in enumerate(ORDER):
            for b in ORDER[i + 1:]:
                if a not in error or b not in error:
                    continue
                true = speed(rows[a]) / speed(rows[b])
                is_right = (speed(other[a]) / speed(other[b]) > 1) == (true > 1)
                for at, is_pair in [(0, abs(true - 1) > TIE), (2, max(true, 1 / true) > apart)]:
                    pairs[at] += is_pair and is_right
                    pairs[at + 1] += is_pair
        counts = [one + other for one, other in zip(counts, pairs)]
        print(f"| {cell} | " + " | ".join(f"{100 * error[name]:+.0f} %" if name in error else "" for name in ORDER)
              + f" | {pairs[0]} of {pairs[1]} | {pairs[2]} of {pairs[3]} |")
    if errors:
        errors = sorted(abs(error) for error in errors)
        within = sum(error <= WITHIN for error in errors)
        print(f"\nThroughput, simulated less measured. Median {100 * errors[len(errors) // 2]:.0f} %, largest "
              f"{100 * errors[-1]:.0f} %; {within} of {len(errors)} within {100 * WITHIN:.0f} %, {surely} beyond it by more than what runs of the same differ by. Order right in {counts[0]} of {counts[1]} pairs of schedules that "
              f"differ by more than {100 * TIE:.0f} %, and in {counts[2]} of {counts[3]} of those that runs tell apart, at 95 %.\n")


def scaling(cells):
    print("| workload | scheduler | 4+4, tokens/s | 8+8, tokens/s | ratio |")
    print("|---|---|---|---|---|")
    for cell, rows in cells.items():
        twin = cell.replace("4+4", "8+8").replace("4 replicas", "8 replicas")
        if not cell.startswith("4+4") or twin not in cells:
            continue
        for name in ["lockstep", "pingpong", "roofline", "adaptive"]:
            if name not in rows:
                continue
            few, many = speed(rows[name]), speed(cells[twin][name])
            print(f"| {cell.removeprefix('4+4 ')} | {name} | {few:,.0f} | {many:,.0f} | {many / few:.2f} |")
    print()


def main():
    groups = read(sys.argv[1])
    for group, cells in groups.items():
        print(f"## {group}\n")
        throughput(cells)
        latency(cells)
        shapes(cells)
        if group == "h100":
            scaling(cells)
    if "cpu" in groups and "simulated-cpu" in groups:
        print("## The simulator against the real runs\n")
        against(groups["cpu"], groups["simulated-cpu"])


if __name__ == "__main__":
    main()
