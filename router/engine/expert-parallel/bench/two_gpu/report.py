#!/usr/bin/env python3
"""Tables of a run of `two_gpus`, as Markdown on standard output.

  report.py RUN_DIR.. [--reprise BINARY]

Several folders are parts of one run. With --reprise each cell is simulated too, over the times of calls that it measured of its own devices:
predictions.csv in the first of them. (Cells of a model's own
gates are left out: the simulator would have to load the model.)
"""

import argparse
import concurrent.futures
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ORDER = ["lockstep", "lockstep+N", "pingpong", "mtfs", "flfs", "defrag", "roofline", "adaptive"]
# Virtual seconds: as long as the cells are measured.
SIMULATED = ["--warm-up-seconds", "1.8", "--seconds", "0.7"]


def general(scheduler):
    return "lockstep+N" if scheduler.startswith("lockstep+") else scheduler


def read(folders):
    """Per cell the runs of each schedule."""
    cells = {}
    for folder in folders:
        with (folder / "raw.csv").open() as file:
            for row in csv.DictReader(file):
                cells.setdefault(row["cell"], {}).setdefault(general(row["scheduler"]), []).append(row)
    return cells


def whole(folders):
    """All reports, but for those of cells that failed."""
    reports = [json.loads(line) for folder in folders for line in (folder / "cells.jsonl").open()]
    return [report for report in reports if "error" not in report]


def mean(runs, field):
    found = [float(run[field]) for run in runs if run[field] != ""]
    return statistics.fmean(found) if found else float("nan")


def interval(runs):
    """Half of the 95 % interval of the throughput as a share of it, from the tenths of all runs."""
    tenths = [tenth for run in runs for tenth in json.loads(run["tokens_in_tenths"])]
    if len(tenths) < 3 or not sum(tenths):
        return float("nan")
    return 2.1 * statistics.stdev(tenths) / len(tenths) ** 0.5 / statistics.fmean(tenths)


def speed(runs):
    return mean(runs, "tokens_per_second")


def table(head, lines):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def throughput(cells):
    lines, below, worst = [], 0, []
    for cell, runs in cells.items():
        if "lockstep" not in runs:
            continue
        base, doubt = speed(runs["lockstep"]), interval(runs["lockstep"])
        line = [cell, f"{base:,.0f} ± {100 * doubt:.0f} %"]
        for name in ORDER[1:]:
            if name not in runs:
                line.append("")
                continue
            ratio = speed(runs[name]) / base
            line.append(f"{ratio:.2f} ± {ratio * (doubt ** 2 + interval(runs[name]) ** 2) ** 0.5:.2f}")
        others = [speed(of) for name, of in runs.items() if name != "adaptive"]
        if "adaptive" in runs and others:
            share = speed(runs["adaptive"]) / max(others)
            worst.append(share)
            below += share < 0.98
            line.append(f"{share:.3f}")
        else:
            line.append("")
        lines.append(line)
    table(["cell", "lockstep, tokens/s", *ORDER[1:], "adaptive / best"], lines)
    print("Columns between: ratio to lockstep with its 95 % interval (from tenths of the measured times; lockstep+N: N copies of hot experts).", end="")
    if worst:
        print(f" Adaptive is below 0.98 of the best in {below} of {len(worst)} cells, at least {min(worst):.3f}.", end="")
    print("\n")


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
        name = f"{report['model']}, {report['device']}"
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


def simulate(binary, report, folder):
    """Throughput by schedule; none: it cannot be simulated without the model."""
    flags = report["flags"].split()
    model = flags[flags.index("--model") + 1]
    if report["gates"] == "natural":
        return {}
    profile = folder / f"{report['cell']}.json"
    profile.write_text(json.dumps(report["profile"]))
    names = {"random:mixtral-8x7b": "mixtral-8x7b", "random:olmoe-1b-7b": "olmoe-1b-7b"}
    flags[flags.index("--model") + 1] = names.get(model, model)
    for flag in {"--warm-up-seconds", "--seconds", "--adaptive-warm-up-seconds", "--repeats"}.intersection(flags):
        del flags[flags.index(flag):flags.index(flag) + 2]
    command = [binary, "bench", "expert-parallel", "--simulate", "--profile", str(profile), *SIMULATED, *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{report['cell']}: {done.stderr[-400:]}", file=sys.stderr)
        return {}
    return {general(run["scheduler"]): run["tokens_per_second"] for run in json.loads(done.stdout)["runs"]}


def predictions(binary, folder, cells, reports):
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda report: simulate(binary, report, pathlib.Path(scratch)), reports))
    lines, errors = [], []
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "scheduler", "predicted_tokens_per_second", "measured_tokens_per_second", "error"])
        for report, predicted in zip(reports, found):
            line = [report["cell"]]
            for name in ORDER:
                runs = cells.get(report["cell"], {}).get(name)
                if not runs or name not in predicted:
                    line.append("")
                    continue
                error = predicted[name] / speed(runs) - 1
                errors.append(error)
                writer.writerow([report["cell"], name, predicted[name], speed(runs), error])
                line.append(f"{100 * error:+.0f} %")
            if any(line[1:]):
                lines.append(line)
    table(["cell", *ORDER], lines)
    if errors:
        sizes = sorted(map(abs, errors))
        within = sum(size <= 0.15 for size in sizes)
        print(f"Throughput, simulated less measured: {within} of {len(sizes)} within 15 %, median {100 * statistics.median(sizes):.0f} %, largest "
              f"{100 * sizes[-1]:.0f} %.\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, nargs="+")
    parser.add_argument("--reprise")
    args = parser.parse_args()
    cells, reports = read(args.run), whole(args.run)
    print("## Throughput\n")
    throughput(cells)
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
        predictions(args.reprise, args.run[0], cells, reports)


if __name__ == "__main__":
    main()
