"""Who answers, and how it goes there."""

from __future__ import annotations

from .panels import Query, gauge, graph, number, rate, total

TITLE = "Router and tiers"
NAME = "router"
ABOUT = "Decisions, load bias, harm guard, queues, errors and second attempts of the tiers."


def rows() -> list[tuple[str, list]]:
    return [("Decisions", decisions()), ("Tiers", tiers()), ("Faults", faults())]


def decisions() -> list:
    return [
        graph("Decisions", "Arms chosen by the policy.", "ops",
              Query(total("reprise_router_decisions_total", "policy, tier, examples"),
                    "{{policy}}: {{tier}}, examples {{examples}}"), stacked=True),
        graph("Load and bias", "Pool load against its working point and the bias on an arm of cost 1: the "
              "autoscaling signal.", "short",
              Query(f"avg({gauge('reprise_router_load')})", "load"),
              Query(f"avg({gauge('reprise_router_load_bias')})", "bias")),
        graph("Straight to the default tier", "Requests whose cache or router was late or failed.", "ops",
              Query(total("reprise_router_straight_total", "reason"), "{{reason}}")),
        graph("Quality by arm", "Mean of measured answers.", "percentunit",
              Query(f"sum by (tier, examples) ({rate('reprise_answer_quality_sum')}) / sum by (tier, examples) ({rate('reprise_answer_quality_count')})",
                    "{{tier}}, examples {{examples}}")),
        graph("Examples withheld", "By the harm guard: decisions in which examples measured worse than none.", "ops",
              Query(total("reprise_guard_withheld_total", "tier"), "{{tier}}")),
        graph("Withheld now", "Clusters of requests and tiers without examples.", "short",
              Query(f"max({gauge('reprise_guard_off')})", "clusters and tiers")),
        graph("Feedback", "What clients said of answers.", "ops",
              Query(total("reprise_feedback_total", "kind"), "{{kind}}")),
        graph("Shadow runs", "Uncertain requests asked again of the dearest tier.", "ops",
              Query(total("reprise_shadow_runs_total", "result"), "{{result}}")),
        number("Offloaded", "Share of routed requests that a cheaper tier answered.", "percentunit",
               f"{total('reprise_offloaded_total')} / {total('reprise_router_decisions_total')}"),
    ]


def tiers() -> list:
    return [
        graph("Ready", "1 if the tier takes requests.", "short", Query(f"min by (tier) ({gauge('reprise_tier_ready')})", "{{tier}}")),
        graph("Queue depth", "Requests that wait for a tier.", "short",
              Query(f"sum by (tier) ({gauge('reprise_tier_queue_depth')})", "{{tier}}")),
        graph("Queued work", "Predicted wait of a request submitted now.", "s",
              Query(f"max by (tier) ({gauge('reprise_tier_queued_seconds')})", "{{tier}}")),
    ]


def faults() -> list:
    return [
        graph("Tier errors", "By kind; a client's own fault is none.", "ops",
              Query(total("reprise_tier_errors_total", "tier, kind"), "{{tier}} {{kind}}")),
        graph("Left alone", "1 while a tier is not asked because it failed.", "short",
              Query(f"max by (tier) ({gauge('reprise_tier_circuit_open')})", "{{tier}}")),
        graph("Second attempts", "Requests asked again of the same tier, and those asked twice at once.", "ops",
              Query(total("reprise_tier_retries_total", "tier"), "{{tier}}, again"),
              Query(total("reprise_tier_hedges_total", "tier, first"), "{{tier}}, twice, the first answered: {{first}}")),
    ]
