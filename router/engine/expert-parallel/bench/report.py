"""One CSV row for each run in a report of `reprise bench expert-parallel`."""

import json

FIELDS = [
    "group", "cell", "simulated", "model", "devices", "attention_devices", "top_k", "gates", "replicas", "workload", "arrivals",
    "sequences_per_attention_device", "placement_balance", "scheduler", "tokens_per_second", "requests_per_second",
    "inter_token_ms_mean", "inter_token_ms_p50", "inter_token_ms_p99", "first_token_ms_p50", "first_token_ms_p99",
    "mean_parts_per_expert_call", "idle_share_mean", "oldest_entry_ms", "balance_mean_over_max", "pingpong_share", "free_share", "defrag_share",
    "sub_layer_us", "experts_us", "head_us", "sub_layer_entries", "experts_entries", "head_entries",
]


def stages(devices):
    """Microseconds and entries of a mean call by kind, of all devices together; of a report with --details."""
    found = {}
    for kind in ["sub_layer", "experts", "head"]:
        all_of = [device["stages"][kind] for device in devices if kind in device["stages"]]
        calls = max(1, sum(stage["calls"] for stage in all_of))
        found[f"{kind}_us"] = 1e6 * sum(stage["seconds"] for stage in all_of) / calls
        found[f"{kind}_entries"] = sum(stage["mean_entries"] * stage["calls"] for stage in all_of) / calls
    return found


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
            "pingpong_share": one["pingpong_share"], "free_share": one["free_share"], "defrag_share": one["defrag_share"], **stages(one.get("devices", [])),
        }
