"""Every PromQL expression of the dashboards and rules, as a Prometheus can be asked for it."""

from __future__ import annotations

import json
import pathlib
import re
from dataclasses import dataclass

import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[1]
# Metrics as they stand in an expression: ours, those of any process, those Prometheus adds, and recorded ones.
METRIC = re.compile(r"\b(?:reprise_\w+|process_\w+|up|\w+:[\w:]+)\b")
COMPARISON = re.compile(r"\s(==|!=|>=|<=|>|<)\s")


@dataclass(frozen=True)
class Query:
    place: str
    expr: str

    def metrics(self) -> set[str]:
        # Label matchers, `by (...)` lists and durations hold no metric names.
        bare = re.sub(r'"[^"]*"', '""', self.expr)
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", bare)
        return set(METRIC.findall(bare))


def of_dashboards(job: str, interval: str) -> list[Query]:
    """All panel targets and variables, with the dashboard's own variables filled in."""
    found = []
    for path in sorted(FOLDER.glob("grafana/*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                found.append(Query(f"{path.name}, {panel['title']}", _fill(target["expr"], job, interval)))
        for variable in board["templating"]["list"]:
            matched = re.fullmatch(r"label_values\((.*), *(\w+)\)", str(variable.get("query", "")))
            if matched:
                found.append(Query(f"{path.name}, variable {variable['name']}", _fill(matched[1], job, interval)))
    return found


def of_rules() -> list[Query]:
    """Recording rules as they are. Alerts by their truth (`> bool`), which exists while nothing is wrong."""
    found = []
    for path in sorted((FOLDER / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text()).get("groups", []):
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                expr = rule["expr"].strip()
                if "alert" in rule:
                    expr = COMPARISON.sub(r" \1 bool ", expr)
                found.append(Query(f"{path.name}, {name}", expr))
    return found


def _fill(expr: str, job: str, interval: str) -> str:
    return expr.replace("$__rate_interval", interval).replace("$job", job).replace("$instance", ".*")
