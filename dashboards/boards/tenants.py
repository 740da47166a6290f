"""Limits, and the ledger that holds them. No metric has a tenant as a label: who used what is in `/admin/v1/usage`."""

from __future__ import annotations

from .panels import Query, gauge, graph, increase, number, total

TITLE = "Tenants and limits"
NAME = "tenants"
ABOUT = "Requests refused for limits and budgets, and the ledger. Each tenant's use: reprise keys usage, or /admin/v1/usage."


def rows() -> list[tuple[str, list]]:
    refused = total("reprise_limited_total")
    return [
        ("Limits", [
            number("Refused", "Share of requests that a limit or a budget did not let in.", "percentunit",
                   f"{refused} / {total('reprise_requests_total')}", [("green", None), ("orange", 0.05)]),
            number("Ledger", "Gateways whose ledger cannot be written.", "short", f"sum({gauge('reprise_ledger_failing')})",
                   [("green", None), ("red", 1)]),
            graph("Refused for a limit", "Requests that a key's or a tenant's limit or budget did not let in.", "ops",
                  Query(total("reprise_limited_total", "limit"), "{{limit}}")),
            graph("Answers with status 429 and 401", "What clients with too much or no right saw.", "reqps",
                  Query(total("reprise_requests_total", "status", labels='status=~"200|401|429"'), "{{status}}")),
        ]),
        ("Ledger", [
            graph("Cannot be written", "1 while it cannot.", "short",
                  Query(f"max by (instance) ({gauge('reprise_ledger_failing')})", "{{instance}}")),
            graph("Unrecorded", "Answers whose use was not recorded, an hour.", "short",
                  Query(increase("reprise_ledger_unrecorded_total", "1h"), "answers")),
            graph("Damaged lines", "Found at the last start.", "short",
                  Query(f"sum by (instance) ({gauge('reprise_ledger_damaged_lines_total')})", "{{instance}}")),
        ]),
    ]
