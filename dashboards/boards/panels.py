"""Queries and panels that every dashboard is made of."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

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


def increase(metric: str, over: str, by: str = "") -> str:
    """Events in the range `over`."""
    grown = f"increase({metric}{{{GATEWAY}}}[{over}])"
    return f"sum by ({by}) ({grown})" if by else f"sum({grown})"


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

