"""Inside the local tiers: batches, KV memory, and the devices of a tier that is spread over several."""

from __future__ import annotations

from .panels import Query, gauge, graph, rate, total

TITLE = "Engine and experts"
NAME = "engine"
ABOUT = "Batches, KV memory, tokens, and the devices and experts of tiers that are spread over several."


def rows() -> list[tuple[str, list]]:
    return [("Batches", batches()), ("Devices and experts", devices())]


def batches() -> list:
    return [
        graph("Running", "Sequences that a tier computes: its batch.", "short",
              Query(f"sum by (tier) ({gauge('reprise_tier_running')})", "{{tier}}")),
        graph("KV memory in use", "Share of a tier's KV blocks.", "percentunit",
              Query(f"max by (tier) ({gauge('reprise_tier_kv_used_ratio')})", "{{tier}}")),
        graph("Tokens written", "A second, of whole answers.", "short",
              Query(total("reprise_tokens_total", "tier", labels='kind="completion"'), "{{tier}}")),
    ]


def devices() -> list:
    by = "tier, device"
    return [
        graph("Busy", "Share of the time in calls: the rest a device waits for others or for work.", "percentunit",
              Query(f"sum by ({by}) ({rate('reprise_device_busy_seconds_total')})", "{{tier}}, device {{device}}")),
        graph("Calls", "By kind.", "ops", Query(total("reprise_device_calls_total", f"{by}, kind"), "{{tier}}, device {{device}}, {{kind}}")),
        graph("Mean batch", "Rows, or parts of experts, in one call.", "short",
              Query(f"sum by ({by}, kind) ({rate('reprise_device_entries_total')}) / sum by ({by}, kind) ({rate('reprise_device_calls_total')})",
                    "{{tier}}, device {{device}}, {{kind}}")),
        graph("Micro-queues by sub-layer", "Entries that wait; e3 are the experts of sub-layer 3.", "short",
              Query(f"sum by (tier, sub_layer) ({gauge('reprise_device_queue_depth')})", "{{tier}} {{sub_layer}}"), stacked=True),
        graph("Oldest entry", "How long the entry waits that has waited longest.", "s",
              Query(gauge("reprise_device_oldest_entry_seconds"), "{{tier}}, device {{device}}")),
        graph("Expert balance", "Mean over maximum of the parts that the devices' experts computed: 1 is even.", "percentunit",
              Query(f"min by (tier) ({gauge('reprise_device_balance_ratio')})", "{{tier}}")),
    ]
