#!/usr/bin/env python3
"""Schedules of expert parallelism side by side, cell by cell: `reprise bench expert-parallel`, one CSV row for each schedule.

  measure.py --reprise BINARY --out DIR cpu|simulated-cpu|h100 [--only TEXT]

cpu: two CPU threads that compute. simulated-cpu: the same cells in the simulator, over times measured just before. h100: AMoE's set-up in the
simulator, over rooflines. Appends to DIR/raw.csv; `summary.py DIR` makes the tables.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys

ALL = "lockstep,mtfs,flfs,defrag,roofline"
# For adaptive, whose first looks at both paces are not what it settles on.
LONGER = 3
FIELDS = [
    "group", "cell", "simulated", "model", "devices", "attention_devices", "top_k", "gates", "replicas", "workload", "arrivals",
    "sequences_per_attention_device", "placement_balance", "scheduler", "tokens_per_second", "requests_per_second",
    "inter_token_ms_mean", "inter_token_ms_p50", "inter_token_ms_p99", "first_token_ms_p50", "first_token_ms_p99",
    "mean_parts_per_expert_call", "idle_share_mean", "oldest_entry_ms", "balance_mean_over_max", "free_pace_share",
]
GATES = {"uniform": ["--skew", "0"], "natural": [], "skewed": ["--skew", "3"]}


def cpu_cells():
    for experts, top_k in [(8, 1), (8, 2), (64, 1), (64, 2)]:
        for gates, flags in GATES.items():
            name = f"{experts}x{top_k} {gates} decode"
            yield name, ["--experts", str(experts), "--top-k", str(top_k), *flags, "--workload", "tiny", "--batch", "32"]
    yield "8x2 natural mixed", ["--experts", "8", "--top-k", "2", "--workload", "medium", "--batch", "8"]
    for load in ["4", "1"]:
        yield f"8x2 natural, {load} sequences a device", ["--experts", "8", "--top-k", "2", "--workload", "tiny", "--batch", load]


def h100_cells():
    for attention in [4, 8]:
        for top_k in [1, 2]:
            for workload in ["short", "medium", "long"]:
                for skew in [0, 3]:
                    for replicas in [0, attention] if skew else [0]:
                        flags = ["--model", "mixtral-8x7b", "--top-k", str(top_k), "--devices", str(2 * attention),
                                 "--attention", str(attention), "--workload", workload, "--skew", str(skew),
                                 "--replicas", str(replicas), "--batch", "256", "--prefill-chunk", "512"]
                        copies = f", {replicas} replicas" if replicas else ""
                        yield f"{attention}+{attention} top-{top_k} {workload} skew {skew}{copies}", flags


def run(binary, flags, seconds, warm_up):
    whole = None
    for schedules, times in [(ALL, 1), ("adaptive", LONGER)]:
        command = [binary, "bench", "expert-parallel", "--scheduler", schedules, "--json", "--seconds", str(seconds * times),
                   "--warm-up-seconds", str(warm_up * times), *flags]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        if whole is None:
            whole = found
        else:
            whole["runs"] += found["runs"]
    return whole


def rows(group, cell, report, top_k):
    arrivals = report["arrivals"]
    for one in report["runs"]:
        gap, first = one["inter_token_ms"], one["first_token_ms"]
        idle = one["idle_share_per_device"]
        yield {
            "group": group, "cell": cell, "simulated": report["simulated"], "model": report["model"],
            "devices": report["devices"], "attention_devices": report["attention_devices"], "top_k": top_k,
            "gates": report["gates"], "replicas": report["replicas"], "workload": report["workload"]["name"],
            "arrivals": json.dumps(arrivals), "sequences_per_attention_device": report["sequences_per_attention_device"],
            "placement_balance": report["placement_balance_mean_over_max"], "scheduler": one["scheduler"],
            "tokens_per_second": one["tokens_per_second"], "requests_per_second": one["requests_per_second"],
            "inter_token_ms_mean": gap["mean"], "inter_token_ms_p50": gap["p50"], "inter_token_ms_p99": gap["p99"],
            "first_token_ms_p50": first["p50"], "first_token_ms_p99": first["p99"],
            "mean_parts_per_expert_call": one["mean_parts_per_expert_call"], "idle_share_mean": sum(idle) / len(idle),
            "oldest_entry_ms": one["oldest_entry_ms"], "balance_mean_over_max": one["balance_mean_over_max"],
            "free_pace_share": one["free_pace_share"],
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=["cpu", "simulated-cpu", "h100"])
    parser.add_argument("--reprise", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="cells whose names hold this text")
    parser.add_argument("--seconds", type=float, help="measured, of each schedule")
    parser.add_argument("--warm-up-seconds", type=float)
    parser.add_argument("--rates", nargs="*", type=float, default=[], help="h100: also Poisson arrivals, at these shares of what "
                        "lock-step reaches when all places are taken")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    raw = args.out / "raw.csv"
    seconds = args.seconds or (4 if args.group == "h100" else 2)
    warm_up = args.warm_up_seconds or (4 if args.group == "h100" else 1)
    cells = h100_cells() if args.group == "h100" else cpu_cells()
    extra = [] if args.group == "cpu" else ["--simulate"]
    fresh = not raw.exists()
    with raw.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if fresh:
            writer.writeheader()
        for cell, flags in cells:
            if args.only not in cell:
                continue
            report = run(args.reprise, [*flags, *extra], seconds, warm_up)
            top_k = flags[flags.index("--top-k") + 1]
            writer.writerows(rows(args.group, cell, report, top_k))
            profile = args.out / "profiles"
            profile.mkdir(exist_ok=True)
            name = f"{args.group} {report['model']} top-{top_k}".replace("/", "-").replace(":", "-").replace(" ", "-")
            (profile / f"{name}.json").write_text(json.dumps(report["profile"], indent=1) + "\n")
            best = next(one["requests_per_second"] for one in report["runs"] if one["scheduler"] == "lockstep")
            for share in args.rates if args.group == "h100" else []:
                report = run(args.reprise, [*flags, *extra, "--rate", str(share * best)], seconds, warm_up)
                writer.writerows(rows(args.group, f"{cell}, load {share:g}", report, top_k))
            file.flush()
            print(cell, file=sys.stderr)


if __name__ == "__main__":
    main()
