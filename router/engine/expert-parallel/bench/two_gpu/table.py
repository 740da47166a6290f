"""A row for each run of a schedule."""

import json

FIELDS = [
    "cell", "model", "layers", "top_k", "attention_devices", "gates", "workload", "sequences", "scheduler", "repeat", "measured_s",
    "tokens_per_second", "tokens_in_tenths", "requests_per_second", "inter_token_ms_mean", "inter_token_ms_p50", "inter_token_ms_p99",
    "first_token_ms_p50", "first_token_ms_p99", "idle_share", "mean_rows_per_attention_call", "mean_parts_per_expert_call",
    "balance_mean_over_max", "placement_balance", "pingpong_share", "free_share", "defrag_share", "copies_share", "calls_per_second",
    # What the ways between the devices cost: both together.
    "payloads_per_second", "bytes_per_second", "packing_us", "unpacking_us", "writing_us", "under_way_us", "hidden_share",
]


def transport(devices, seconds):
    way = [device["way"] for device in devices]
    of = lambda name: sum(one[name] for one in way)
    taken, timed, under_way = of("taken"), of("timed"), of("under_way")
    each = lambda total, count: 1e6 * total / count if count else ""
    return {
        "payloads_per_second": taken / seconds, "bytes_per_second": of("bytes_sent") / seconds,
        # Of a payload: the hosts' time at its two ends, the device's for writing it, and from being sent to being taken in.
        "packing_us": each(of("packing"), taken), "unpacking_us": each(of("unpacking"), taken), "writing_us": each(of("writing"), timed),
        "under_way_us": each(under_way, taken),
        # How much of that the receiver was computing.
        "hidden_share": of("hidden") / under_way if under_way else "",
    }


def rows(cell, report, repeat):
    for run in report["runs"]:
        gap, first = run["inter_token_ms"], run["first_token_ms"]
        seconds = run["measured_s"]
        yield {
            "cell": cell["name"], "model": report["model"], "layers": report["layers"], "top_k": report["top_k"],
            "attention_devices": report["attention_devices"], "gates": report["gates"], "workload": report["workload"]["name"],
            "sequences": cell["sequences"], "scheduler": run["scheduler"], "repeat": repeat, "measured_s": seconds,
            "tokens_per_second": run["tokens_per_second"], "tokens_in_tenths": json.dumps(run["tokens_in_tenths"]),
            "requests_per_second": run["requests_per_second"],
            "inter_token_ms_mean": gap["mean"], "inter_token_ms_p50": gap["p50"], "inter_token_ms_p99": gap["p99"],
            "first_token_ms_p50": first["p50"], "first_token_ms_p99": first["p99"],
            "idle_share": json.dumps(run["idle_share_per_device"]), "mean_rows_per_attention_call": run["mean_rows_per_attention_call"],
            "mean_parts_per_expert_call": run["mean_parts_per_expert_call"], "balance_mean_over_max": run["balance_mean_over_max"],
            "placement_balance": report["placement_balance_mean_over_max"], "pingpong_share": run["pingpong_share"],
            "free_share": run["free_share"], "defrag_share": run["defrag_share"], "copies_share": run["copies_share"],
            "calls_per_second": sum(device["calls"] for device in run["devices"]) / seconds,
            **transport(run["devices"], seconds),
        }
