"""Is it well: requests, errors against the objective, latency, what is saved, quality, the process."""

from __future__ import annotations

from .panels import Query, gauge, graph, increase, mean, number, quantiles, rate, total

TITLE = "Overview"
NAME = "overview"
ABOUT = "Whether the gateways are well: requests, errors, latency, savings, quality, process."


def rows() -> list[tuple[str, list]]:
    return [("At a glance", glance()), ("Requests", requests()), ("Latency", latency()), ("Process", process())]


def glance() -> list:
    errors = total("reprise_requests_total", labels='status=~"5.."')
    hits = total("reprise_cache_lookups_total", labels='result="hit"')
    every = total("reprise_requests_total")
    return [
        number("Requests", "Requests a second, all endpoints.", "reqps", every),
        number(
            "Server errors", "Share of requests answered with a 5xx status.", "percentunit", f"({errors} or vector(0)) / {every}",
            [("green", None), ("orange", 0.01), ("red", 0.05)],
        ),
        number(
            "Offloaded", "Share of routed requests that a cheaper tier answered in place of the most expensive one.",
            "percentunit", f"{total('reprise_offloaded_total')} / {total('reprise_router_decisions_total')}",
        ),
        number(
            "Answered from the store", "Share of lookups that found the very same request.", "percentunit",
            f"{hits} / {total('reprise_cache_lookups_total')}",
        ),
        number("Quality", "Mean of the answers that were rated or compared with the dearest tier's, in the last day.", "percentunit",
               f"{increase('reprise_answer_quality_sum', '1d')} / {increase('reprise_answer_quality_count', '1d')}",
               [("red", None), ("orange", 0.5), ("green", 0.7)]),
        number(
            "Tiers ready", "Share of the configured tiers that can answer.", "percentunit",
            f"avg({gauge('reprise_tier_ready')})", [("red", None), ("orange", 0.5), ("green", 1)],
        ),
    ]


def requests() -> list:
    return [
        graph(
            "Requests by endpoint and status", "A status of 499 is a client that went away.", "reqps",
            Query(total("reprise_requests_total", "endpoint, status"), "{{endpoint}} {{status}}"), stacked=True,
        ),
        graph(
            "Requests by tier", "Which tier answered; no tier where the request was refused.", "reqps",
            Query(total("reprise_requests_total", "tier"), "{{tier}}"), stacked=True,
        ),
        graph("Error budget burned", "How many times faster than the objective of 99.5 % allows: 1 spends a month's budget in a month.", "short",
              Query('job:reprise_request_errors:ratio_rate5m{job="$job"} / 0.005', "5 minutes"),
              Query('job:reprise_request_errors:ratio_rate1h{job="$job"} / 0.005', "1 hour"),
              Query('job:reprise_request_errors:ratio_rate6h{job="$job"} / 0.005', "6 hours")),
        graph("Tokens by tier", "Prompt, completion and example tokens a second.", "short",
              Query(total("reprise_tokens_total", "tier, kind"), "{{tier}} {{kind}}")),
        graph("Tokens saved", "Completion tokens a second that no tier had to write, because the store had the answer.", "short",
              Query(total("reprise_tokens_saved_total"), "tokens")),
        graph("Money, an hour", "By the tiers' prices, in their currency: spent, and saved by stored answers and by routing to a cheaper tier.", "short",
              Query(increase("reprise_money_spent_total", "1h", "tier"), "spent at {{tier}}"),
              Query(increase("reprise_money_saved_total", "1h", "by"), "saved by {{by}}")),
    ]


def latency() -> list:
    return [
        graph("Time to first token", "From the request's head to the first text of its answer.", "s",
              *quantiles("reprise_time_to_first_token_seconds", "tier")),
        graph("Time between tokens", "One streamed token to the next.", "s",
              *quantiles("reprise_inter_token_seconds", "tier")),
        graph("Request duration", "First byte in to last byte out.", "s",
              *quantiles("reprise_request_duration_seconds", "endpoint")),
        graph("Overhead", "Time in the gateway less the time it waited for a tier.", "s",
              *quantiles("reprise_overhead_seconds")),
        graph("Stages, p99", "Where the overhead goes.", "s",
              Query(f"histogram_quantile(0.99, sum by (stage, le) ({rate('reprise_stage_duration_seconds_bucket')}))",
                    "{{stage}}")),
        graph("Open streams", "Answers being streamed.", "short",
              Query(f"sum({gauge('reprise_open_streams')})", "streams")),
    ]


def process() -> list:
    return [
        number("Uptime", "Of the gateway that started last.", "s",
               f"min(time() - {gauge('process_start_time_seconds')})"),
        number("Panics", "Caught since the start.", "short", f"sum({gauge('reprise_panics_total')})",
               [("green", None), ("red", 1)]),
        graph("Resident memory", "With the models of every local tier.", "bytes",
              Query(gauge("process_resident_memory_bytes"), "{{instance}}"),
              Query(gauge("reprise_allocated_bytes"), "{{instance}}, allocated")),
        graph("Traces", "Spans that the collector took, and those that were dropped; none where traces are off.", "ops",
              Query(total("reprise_spans_total"), "sent"),
              Query(total("reprise_spans_dropped_total", "reason"), "dropped: {{reason}}")),
        graph("Configuration read again", "An hour, by outcome.", "short",
              Query(increase("reprise_config_reloads_total", "1h", "result"), "{{result}}")),
        graph("Mean quality", "By what measured it.", "percentunit",
              Query(f"sum by (by) ({rate('reprise_answer_quality_sum')}) / sum by (by) ({rate('reprise_answer_quality_count')})", "{{by}}"),
              Query(mean("reprise_answer_quality"), "all")),
    ]
