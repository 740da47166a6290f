#!/usr/bin/env python3
"""Writes reprise-overview.json, the Grafana dashboard of one or more gateways.

Built with Grafana's own typed SDK (grafana-foundation-sdk, generated from the schemas of Grafana 11.6), so that a
misspelt option is an error here and not a silently empty panel there. `--check` fails if the committed file differs.
"""

from __future__ import annotations

import pathlib
import sys
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

OUTPUT = pathlib.Path(__file__).with_name("reprise-overview.json")
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GATEWAY = 'job="$job",instance=~"$instance"'


@dataclass
class Query:
    expr: str
    legend: str


def rate(metric: str, labels: str = "") -> str:
    """Events a second; `labels` are further matchers."""
    selector = f"{GATEWAY},{labels}" if labels else GATEWAY
    return f"rate({metric}{{{selector}}}[$__rate_interval])"


def gauge(metric: str) -> str:
    return f"{metric}{{{GATEWAY}}}"


def total(metric: str, by: str = "", labels: str = "") -> str:
    return f"sum by ({by}) ({rate(metric, labels)})" if by else f"sum({rate(metric, labels)})"


def quantiles(metric: str, by: str = "") -> list[Query]:
    """p50, p95 and p99 of a histogram, one line for each value of the label `by`."""
    labels = f"{by}, le" if by else "le"
    prefix = f"{{{{{by}}}}} " if by else ""
    return [
        Query(f"histogram_quantile({q}, sum by ({labels}) ({rate(f'{metric}_bucket')}))", f"{prefix}{name}")
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]


def mean(metric: str) -> str:
    return f"sum({rate(f'{metric}_sum')}) / sum({rate(f'{metric}_count')})"


def target(query: Query, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).range()


def finish(panel, title: str, help_text: str, unit: str, width: int, height: int, queries: list[Query]):
    panel = panel.title(title).description(help_text).unit(unit).datasource(SOURCE).span(width).height(height)
    for index, query in enumerate(queries):
        panel = panel.with_target(target(query, chr(ord("A") + index)))
    return panel


def graph(title: str, help_text: str, unit: str, *queries: Query, stacked: bool = False):
    panel = timeseries.Panel().fill_opacity(10).show_points(common.VisibilityMode.NEVER).min(0)
    panel = panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    return finish(panel, title, help_text, unit, 8, 8, list(queries))


def number(title: str, help_text: str, unit: str, expr: str, steps: list[tuple[str, float | None]] | None = None):
    panel = stat.Panel().reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    colours = steps or [("text", None)]
    panel = panel.thresholds(
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(color=colour, value=value) for colour, value in colours])
    )
    return finish(panel, title, help_text, unit, 4, 4, [Query(expr, "")])


def overview() -> list:
    errors = total("reprise_requests_total", labels='status=~"5.."')
    hits = total("reprise_cache_lookups_total", labels='result="hit"')
    requests = total("reprise_requests_total")
    return [
        number("Requests", "Requests a second, all endpoints.", "reqps", requests),
        number(
            "Server errors", "Share of requests answered with a 5xx status.", "percentunit", f"({errors} or vector(0)) / {requests}",
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
        number(
            "Tokens saved", "Completion tokens a second that no tier had to write, because the store had the answer.", "short", total("reprise_tokens_saved_total")
        ),
        number(
            "Tiers ready", "Share of the configured tiers that can answer.", "percentunit",
            f"avg({gauge('reprise_tier_ready')})", [("red", None), ("orange", 0.5), ("green", 1)],
        ),
        graph(
            "Requests by endpoint and status", "A status of 499 is a client that went away.", "reqps",
            Query(total("reprise_requests_total", "endpoint, status"), "{{endpoint}} {{status}}"), stacked=True,
        ),
        graph(
            "Requests by tier", "Which tier answered; no tier where the request was refused.", "reqps",
            Query(total("reprise_requests_total", "tier"), "{{tier}}"), stacked=True,
        ),
        graph(
            "Tokens by tier", "Prompt, completion and example tokens a second.", "short",
            Query(total("reprise_tokens_total", "tier, kind"), "{{tier}} {{kind}}"),
        ),
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


def cache() -> list:
    return [
        graph("Lookups", "hit: the stored answer was sent. examples: examples were shown. miss: nothing useful. "
              "bypass: the client or the request ruled the cache out.", "ops",
              Query(total("reprise_cache_lookups_total", "result"), "{{result}}"), stacked=True),
        graph("Examples held", "All tenants.", "short", Query(f"sum({gauge('reprise_cache_examples')})", "examples")),
        graph("Bytes held", "Eviction keeps the bytes under the budget.", "bytes",
              Query(f"sum({gauge('reprise_cache_bytes')})", "held"),
              Query(f"sum({gauge('reprise_cache_byte_budget')})", "budget")),
        graph("Admissions and evictions", "What became of finished answers.", "ops",
              Query(total("reprise_cache_admissions_total", "result"), "{{result}}"),
              Query(total("reprise_cache_evictions_total"), "evicted"),
              Query(total("reprise_afterwards_dropped_total"), "dropped, too many waiting")),
        graph("Examples per prompt", "Mean number of examples chosen.", "short",
              Query(mean("reprise_selection_examples"), "examples")),
        graph("Similarity of the nearest example", "Cosine of the question and the example's request.", "percentunit",
              *quantiles("reprise_selection_similarity")),
        graph("Utility model", "Version that scores examples; 0 is the similarity prior.", "short",
              Query(gauge("reprise_utility_version"), "{{instance}}")),
    ]


def router() -> list:
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
        graph("Queue depth", "Requests that wait for a tier.", "short",
              Query(f"sum by (tier) ({gauge('reprise_tier_queue_depth')})", "{{tier}}")),
        graph("Running", "Sequences that a tier computes.", "short",
              Query(f"sum by (tier) ({gauge('reprise_tier_running')})", "{{tier}}")),
        graph("Queued work", "Predicted wait of a request submitted now.", "s",
              Query(f"max by (tier) ({gauge('reprise_tier_queued_seconds')})", "{{tier}}")),
        graph("KV cache in use", "Share of a tier's KV blocks.", "percentunit",
              Query(f"max by (tier) ({gauge('reprise_tier_kv_used_ratio')})", "{{tier}}")),
        graph("Tier errors", "By kind; a client's own fault is none.", "ops",
              Query(total("reprise_tier_errors_total", "tier, kind"), "{{tier}} {{kind}}")),
        graph("Feedback", "What clients said of answers.", "ops",
              Query(total("reprise_feedback_total", "kind"), "{{kind}}")),
        graph("Examples withheld", "By the harm guard: decisions in which examples measured worse than none.", "ops",
              Query(total("reprise_guard_withheld_total", "tier"), "{{tier}}")),
        graph("Withheld now", "Clusters of requests and tiers without examples.", "short",
              Query(f"max({gauge('reprise_guard_off')})", "clusters and tiers")),
        graph("Shadow runs", "Uncertain requests asked again of the dearest tier.", "ops",
              Query(total("reprise_shadow_runs_total", "result"), "{{result}}")),
    ]


def limits_and_faults() -> list:
    return [
        graph("Refused for a limit", "Requests that a key's or a tenant's limit or budget did not let in.", "ops",
              Query(total("reprise_limited_total", "limit"), "{{limit}}")),
        graph("Ledger", "1 while it cannot be written; answers whose use was not recorded; lines found damaged at the start.", "short",
              Query(f"max({gauge('reprise_ledger_failing')})", "cannot be written"),
              Query(total("reprise_ledger_unrecorded_total"), "unrecorded a second"),
              Query(f"sum({gauge('reprise_ledger_damaged_lines_total')})", "damaged lines")),
        graph("Left alone", "1 while a tier is not asked because it failed.", "short",
              Query(f"max by (tier) ({gauge('reprise_tier_circuit_open')})", "{{tier}}")),
        graph("Second attempts", "Requests asked again of the same tier, and those asked twice at once.", "ops",
              Query(total("reprise_tier_retries_total", "tier"), "{{tier}}, again"),
              Query(total("reprise_tier_hedges_total", "tier, first"), "{{tier}}, twice, the first answered: {{first}}")),
        graph("Shared answers", "Requests that waited for the answer to the very same request.", "ops",
              Query(total("reprise_shared_flights_total"), "requests")),
        graph("Configuration read again", "An hour, by outcome.", "short",
              Query(f"sum by (result) (increase(reprise_config_reloads_total{{{GATEWAY}}}[1h]))", "{{result}}")),
    ]


def replay_and_process() -> list:
    return [
        number("Since the last replay run", "Since the gateway started, where none ran.", "s",
               "max(instance:reprise_replay_age:seconds{" + GATEWAY + "})",
               [("green", None), ("orange", 36 * 3600), ("red", 72 * 3600)]),
        number("Answers improved", "By replay, in the last day.", "short",
               f"sum(increase(reprise_replay_improved_total{{{GATEWAY}}}[1d]))"),
        number("Replay tokens", "Spent on asking again, in the last day.", "short",
               f"sum(increase(reprise_replay_tokens_total{{{GATEWAY}}}[1d]))"),
        number("Store recoveries", "Damaged stores set aside since the start.", "short",
               f"sum({gauge('reprise_store_recoveries_total')})", [("green", None), ("red", 1)]),
        number("Panics", "Caught since the start.", "short", f"sum({gauge('reprise_panics_total')})",
               [("green", None), ("red", 1)]),
        number("Uptime", "Of the gateway that started last.", "s",
               f"min(time() - {gauge('process_start_time_seconds')})"),
        graph("Replay runs", "By outcome, an hour.", "short",
              Query(f"sum by (result) (increase(reprise_replay_runs_total{{{GATEWAY}}}[1h]))", "{{result}}")),
        graph("Resident memory", "With the models of every local tier.", "bytes",
              Query(gauge("process_resident_memory_bytes"), "{{instance}}"),
              Query(gauge("reprise_allocated_bytes"), "{{instance}}, allocated")),
        graph("Store on disk", "", "bytes", Query(gauge("reprise_store_bytes"), "{{instance}}")),
    ]


def variable(name: str, label: str, query: str, many: bool) -> dashboard.QueryVariable:
    built = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    built = built.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(many).include_all(many)
    return built.all_value(".*") if many else built


def build() -> str:
    board = (
        dashboard.Dashboard("Reprise")
        .uid("reprise-overview")
        .description("Requests, latency, cache, router, tiers and replay of Reprise gateways.")
        .tags(["reprise", "llm"])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(variable("job", "Job", "label_values(reprise_build_info, job)", False))
        .with_variable(
            variable("instance", "Instance", 'label_values(reprise_build_info{job="$job"}, instance)', True)
        )
    )
    rows = (
        ("Overview", overview()),
        ("Latency", latency()),
        ("Cache", cache()),
        ("Router and tiers", router()),
        ("Limits, ledger, faults", limits_and_faults()),
        ("Replay, store, process", replay_and_process()),
    )
    for title, panels in rows:
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def main() -> int:
    wanted = build()
    if "--check" not in sys.argv[1:]:
        OUTPUT.write_text(wanted)
        return 0
    if OUTPUT.read_text() != wanted:
        print(f"{OUTPUT.name} is not what generate.py writes: run it and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
