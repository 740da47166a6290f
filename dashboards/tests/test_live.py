"""A real Prometheus scrapes real gateways; every dashboard query and every rule is then asked of it.

None may be empty, NaN or name a metric that nobody exports. A query that should fail is asked as well: were it not
caught, the test would prove nothing.
"""

from __future__ import annotations

import pytest
from prometheus import Prometheus
from queries import Query, of_dashboards, of_rules
from reprise_process import SMALL, Reprise, eventually, free_port

# Scraped every second, so that the ranges of a dashboard fill quickly.
INTERVAL = "1m"
DEAD_TIER = """
[[tiers]]
name = "large"
base_url = "http://127.0.0.1:{port}/v1"
model = "nobody"
cost = 1.0
context_length = 8192
"""
# Its devices and experts are there to be seen.
SPREAD_TIER = """
[[tiers]]
name = "spread"
model = "smollm2-135m-instruct-moe-4x2-q4_1"
devices = ["cpu", "cpu"]
max_sequences = 4
cost = 0.5
"""
ROUTER = '[router]\npolicy = "small-examples"\ndefault_tier = "small"\ndeadline_ms = {deadline}\n'


def traffic(gateway: Reprise, round_number: int) -> None:
    """One of everything that a dashboard shows."""
    question = f"What is the capital of the country number {round_number}, Germany?"
    status, headers, _ = gateway.chat(question)
    assert status == 200
    assert gateway.chat(question)[1]["x-reprise-cache"] in ("HIT", "MISS", "EXAMPLES")
    assert gateway.chat(question, stream=True)[0] == 200
    assert gateway.chat(f"Please tell me: {question}")[0] == 200
    assert gateway.chat(f"A plain question, number {round_number}?", headers={"x-reprise-cache": "off"})[0] == 200
    assert gateway.chat(question, model="no-such-model")[0] == 404
    assert gateway.chat(question, model="large")[0] >= 500, "the upstream of that tier is dead"
    assert gateway.chat(question, temperature="hot")[0] == 400
    told = {"request_id": headers["x-request-id"], "rating": 1.0}
    assert gateway.call("POST", "/v1/feedback", told)[0] == 202
    report = {"stopped_because": "budget", "improved": [{"id": "x"}], "tokens_spent": 100}
    assert gateway.call("POST", "/admin/v1/replay/runs", report)[0] == 201


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    dead = DEAD_TIER.format(port=free_port())
    # The second gateway's deadline has passed before it began, so its requests go straight to the default tier.
    configs = [ROUTER.format(deadline=deadline) + SMALL + tiers for deadline, tiers in
               (("20000", SPREAD_TIER + dead), ("0.001", dead))]
    with (
        Reprise(tmp_path_factory.mktemp("patient"), configs[0]) as patient,
        Reprise(tmp_path_factory.mktemp("hasty"), configs[1]) as hasty,
        Prometheus(tmp_path_factory.mktemp("prometheus"), [patient.port, hasty.port]) as running,
    ):
        # Rates need a series before and after: traffic, a scrape, traffic, a scrape.
        for round_number in (1, 2):
            for gateway in (patient, hasty):
                traffic(gateway, round_number)
            assert patient.chat(f"Count to {round_number + 9}.", model="spread")[0] == 200
            scraped = len(_scrapes(running))
            eventually("two more scrapes", lambda seen=scraped: len(_scrapes(running)) >= seen + 2)
        yield running


def _scrapes(prometheus: Prometheus) -> list:
    result = prometheus.get("query", query="up[1h]")["result"]
    return min((series["values"] for series in result), key=len, default=[])


@pytest.fixture(scope="module")
def names(prometheus) -> set[str]:
    eventually("the recording rules are evaluated", lambda: any(name.startswith("job:") for name in prometheus.names()))
    return prometheus.names()


def _failing(prometheus: Prometheus, names: set[str], queries: list[Query]) -> list[str]:
    return [f"{query.place}: {why}\n    {query.expr}" for query in queries if (why := prometheus.problem(query, names))]


def test_every_dashboard_query_has_data(prometheus, names):
    queries = of_dashboards("reprise", INTERVAL)
    assert len(queries) > 40
    failing = _failing(prometheus, names, queries)
    assert not failing, f"{len(failing)} of {len(queries)} queries:\n" + "\n".join(failing)


def test_every_rule_has_data(prometheus, names):
    queries = of_rules()
    assert len(queries) >= 20
    failing = _failing(prometheus, names, queries)
    assert not failing, f"{len(failing)} of {len(queries)} rules:\n" + "\n".join(failing)


def test_prometheus_itself_evaluates_the_rules(prometheus):
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(of_rules())
    eventually("all rules were evaluated", lambda: all(
        rule["health"] != "unknown" for group in prometheus.get("rules")["groups"] for rule in group["rules"]
    ))
    unhealthy = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"] if rule["health"] != "ok"]
    assert not unhealthy


def test_every_exported_metric_is_shown(prometheus, names):
    queries = [*of_dashboards("reprise", INTERVAL), *of_rules()]
    shown = {family(metric) for query in queries for metric in query.metrics()}
    exported = {family(name) for name in names if name.startswith("reprise_")}
    assert exported - shown == set(), "exported, and on no dashboard or rule"


def family(name: str) -> str:
    for suffix in ("_bucket", "_sum", "_count"):
        name = name.removesuffix(suffix)
    return name


@pytest.mark.parametrize(
    ("expr", "why"),
    [
        ("rate(reprise_no_such_metric_total[1m])", "unknown metrics"),
        ('reprise_tier_ready{tier="no such tier"}', "no data"),
        ("0 * reprise_tier_ready / 0", "only NaN"),
        ("sum(rate(reprise_requests_total[1m])", "parse error"),
        ("vector(1)", "names no metric"),
    ],
)
def test_a_bogus_query_is_caught(prometheus, names, expr, why):
    assert why in (prometheus.problem(Query("bogus", expr), names) or "")
