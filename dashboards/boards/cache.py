"""What is remembered, and what of it is shown."""

from __future__ import annotations

from .panels import Query, gauge, graph, increase, mean, number, quantiles, total

TITLE = "Cache and examples"
NAME = "cache"
ABOUT = "Lookups, selection of examples, the store and its budget."


def rows() -> list[tuple[str, list]]:
    return [("Lookups and selection", lookups()), ("Memory", memory())]


def lookups() -> list:
    shown = total("reprise_tokens_total", "tier", labels='kind="example"')
    read = total("reprise_tokens_total", "tier", labels='kind="prompt"')
    return [
        graph("Lookups", "hit: the stored answer was sent. examples: examples were shown. miss: nothing useful. "
              "bypass: the client or the request ruled the cache out.", "ops",
              Query(total("reprise_cache_lookups_total", "result"), "{{result}}"), stacked=True),
        graph("Examples per prompt", "Mean number of examples chosen.", "short",
              Query(mean("reprise_selection_examples"), "examples")),
        graph("Similarity of the nearest example", "Cosine of the question and the example's request.", "percentunit",
              *quantiles("reprise_selection_similarity")),
        graph("Shared answers", "Requests that waited for the answer to the very same request.", "ops",
              Query(total("reprise_shared_flights_total"), "requests")),
        graph("Prompt tokens of examples", "Share of all prompt tokens.", "percentunit",
              Query(f"{shown} / {read}", "{{tier}}")),
        graph("Utility model", "Version that scores examples; 0 is the similarity prior.", "short",
              Query(gauge("reprise_utility_version"), "{{instance}}")),
    ]


def memory() -> list:
    return [
        number("Store recoveries", "Damaged stores set aside since the start.", "short",
               f"sum({gauge('reprise_store_recoveries_total')})", [("green", None), ("red", 1)]),
        number("Store refuses writes", "Gateways that answer and remember nothing new.", "short",
               f"sum({gauge('reprise_store_degraded')})", [("green", None), ("red", 1)]),
        number("Budget used", "Of the bytes that examples may take: eviction begins at all of it.", "percentunit",
               f"max({gauge('reprise_cache_bytes')} / {gauge('reprise_cache_byte_budget')})"),
        graph("Examples held", "All tenants.", "short", Query(f"sum({gauge('reprise_cache_examples')})", "examples")),
        graph("Bytes held", "Eviction keeps the bytes under the budget.", "bytes",
              Query(f"sum({gauge('reprise_cache_bytes')})", "held"),
              Query(f"sum({gauge('reprise_cache_byte_budget')})", "budget")),
        graph("Admissions and evictions", "What became of finished answers.", "ops",
              Query(total("reprise_cache_admissions_total", "result"), "{{result}}"),
              Query(total("reprise_cache_evictions_total"), "evicted"),
              Query(total("reprise_afterwards_dropped_total"), "dropped, too many waiting")),
        graph("Store on disk", "With what sled keeps beside the examples.", "bytes", Query(gauge("reprise_store_bytes"), "{{instance}}")),
        graph("Examples kept from the last hour's answers", "Inserted or merged, an hour.", "short",
              Query(increase("reprise_cache_admissions_total", "1h", "result"), "{{result}}")),
    ]
