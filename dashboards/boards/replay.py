"""The curation job: when it ran, what it improved, what it cost."""

from __future__ import annotations

from .panels import GATEWAY, Query, graph, increase, number

TITLE = "Replay"
NAME = "replay"
ABOUT = "Runs of reprise-replay curate: age, outcomes, tokens spent, examples improved."


def rows() -> list[tuple[str, list]]:
    return [("Curation", [
        number("Since the last run", "Since the gateway started, where none ran.", "s",
               "max(instance:reprise_replay_age:seconds{" + GATEWAY + "})",
               [("green", None), ("orange", 36 * 3600), ("red", 72 * 3600)]),
        number("Answers improved", "In the last day.", "short",
               increase("reprise_replay_improved_total", "1d")),
        number("Tokens", "Spent on asking again, in the last day.", "short",
               increase("reprise_replay_tokens_total", "1d")),
        number("Tokens for an improvement", "In the last day.", "short",
               f"{increase('reprise_replay_tokens_total', '1d')} / {increase('reprise_replay_improved_total', '1d')}"),
        graph("Runs", "By why they stopped, an hour.", "short",
              Query(increase("reprise_replay_runs_total", "1h", "result"), "{{result}}")),
        graph("Improved", "Examples, an hour.", "short",
              Query(increase("reprise_replay_improved_total", "1h"), "examples")),
        graph("Tokens spent", "An hour.", "short",
              Query(increase("reprise_replay_tokens_total", "1h"), "tokens")),
    ])]
