#!/usr/bin/env python3
"""Tables of DIR/raw.csv as Markdown, on standard output: `summary.py DIR`."""

import csv
import pathlib
import sys

ORDER = ["lockstep", "mtfs", "flfs", "defrag", "roofline", "adaptive"]
# Throughputs nearer than this are taken for equal when orders are compared.
TIE = 0.03


def read(folder):
    groups = {}
    with (pathlib.Path(folder) / "raw.csv").open() as file:
        for row in csv.DictReader(file):
            groups.setdefault(row["group"], {}).setdefault(row["cell"], {})[row["scheduler"]] = row
    return groups


def speed(row):
    return float(row["tokens_per_second"])


def throughput(cells):
    print("| cell | lockstep, tokens/s | " + " | ".join(ORDER[1:]) + " | adaptive / better of lockstep and defrag | balance |")
    print("|---|---|" + "---|" * (len(ORDER) + 1))
    worst = None
    for cell, rows in cells.items():
        base = speed(rows["lockstep"])
        ratios = [f"{speed(rows[name]) / base:.2f}" for name in ORDER[1:]]
        adaptive = speed(rows["adaptive"]) / max(base, speed(rows["defrag"]))
        worst = adaptive if worst is None else min(worst, adaptive)
        balance = float(rows["lockstep"]["balance_mean_over_max"])
        print(f"| {cell} | {base:,.0f} | " + " | ".join(ratios) + f" | {adaptive:.3f} | {balance:.2f} |")
    print(f"\nOther columns: ratio to lockstep. Adaptive's worst cell: {worst:.3f}.\n")


def latency(cells):
    print("| cell | " + " | ".join(ORDER) + " |")
    print("|---|" + "---|" * len(ORDER))
    for cell, rows in cells.items():
        each = [f"{float(rows[name]['inter_token_ms_mean']):.2f} ({float(rows[name]['inter_token_ms_p99']):.1f})" for name in ORDER]
        print(f"| {cell} | " + " | ".join(each) + " |")
    print("\nMean time between two tokens of a sequence in ms (99th percentile).\n")


def shapes(cells):
    print("| cell | " + " | ".join(ORDER) + " |")
    print("|---|" + "---|" * len(ORDER))
    for cell, rows in cells.items():
        each = [f"{float(rows[name]['mean_parts_per_expert_call']):.1f}, {100 * float(rows[name]['idle_share_mean']):.0f} %"
                for name in ORDER]
        print(f"| {cell} | " + " | ".join(each) + " |")
    print("\nMean parts in a call of experts (in lock-step, of all experts of a device together), mean idle share of the devices.\n")


def against(real, simulated):
    print("| cell | " + " | ".join(ORDER) + " | order of pairs that differ |")
    print("|---|" + "---|" * (len(ORDER) + 1))
    errors, right_all, pairs_all = [], 0, 0
    for cell, rows in real.items():
        if cell not in simulated:
            continue
        other = simulated[cell]
        error = {name: speed(other[name]) / speed(rows[name]) - 1 for name in ORDER}
        errors += error.values()
        right = pairs = 0
        for i, a in enumerate(ORDER):
            for b in ORDER[i + 1:]:
                true = speed(rows[a]) / speed(rows[b])
                if abs(true - 1) > TIE:
                    pairs += 1
                    right += (speed(other[a]) / speed(other[b]) > 1) == (true > 1)
        right_all, pairs_all = right_all + right, pairs_all + pairs
        print(f"| {cell} | " + " | ".join(f"{100 * error[name]:+.0f} %" for name in ORDER) + f" | {right} of {pairs} |")
    if errors:
        errors = sorted(abs(error) for error in errors)
        within = sum(error <= 0.15 for error in errors)
        print(f"\nThroughput, simulated less measured. Median {100 * errors[len(errors) // 2]:.0f} %, largest "
              f"{100 * errors[-1]:.0f} %; {within} of {len(errors)} within 15 %. Order right in {right_all} of {pairs_all} pairs of schedules that "
              f"differ by more than {100 * TIE:.0f} %.\n")


def scaling(cells):
    print("| workload | scheduler | 4+4, tokens/s | 8+8, tokens/s | ratio |")
    print("|---|---|---|---|---|")
    for cell, rows in cells.items():
        twin = cell.replace("4+4", "8+8").replace("4 replicas", "8 replicas")
        if not cell.startswith("4+4") or twin not in cells:
            continue
        for name in ["lockstep", "defrag", "adaptive"]:
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
