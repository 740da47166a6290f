#!/usr/bin/env python3
"""Writes grafana/*.json, the Grafana dashboards of one or more gateways, from the files in boards/.

Built with Grafana's own typed SDK (grafana-foundation-sdk, generated from the schemas of Grafana 11.6), so that a
misspelt option is an error here and not a silently empty panel there. `--check` fails if a committed file differs, or is no
dashboard of that schema any more.
"""

from __future__ import annotations

import json
import pathlib
import sys
from types import ModuleType

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from boards import cache, engine, overview, replay, router, tenants
from boards.panels import SOURCE

FOLDER = pathlib.Path(__file__).with_name("grafana")
BOARDS = [overview, cache, router, engine, replay, tenants]


def variable(name: str, label: str, query: str, many: bool) -> dashboard.QueryVariable:
    built = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    built = built.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(many).include_all(many)
    return built.all_value(".*") if many else built


def build(part: ModuleType) -> models.Dashboard:
    others = dashboard.DashboardLink("Reprise").type(models.DashboardLinkType.DASHBOARDS).tags(["reprise"])
    board = (
        dashboard.Dashboard(f"Reprise: {part.TITLE}")
        .uid(f"reprise-{part.NAME}")
        .description(part.ABOUT)
        .tags(["reprise", "llm"])
        .link(others.as_dropdown(False).include_vars(True).keep_time(True))
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
    for title, panels in part.rows():
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board.build()


def encode(board: models.Dashboard) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(board) + "\n"


def main() -> int:
    wanted = {f"reprise-{part.NAME}.json": encode(build(part)) for part in BOARDS}
    if "--check" not in sys.argv[1:]:
        FOLDER.mkdir(exist_ok=True)
        for name, text in wanted.items():
            (FOLDER / name).write_text(text)
        return 0
    found = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    faults = [f"{name} is not what generate.py writes: run it and commit the result"
              for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    # What the schema does not know, reading drops: the same text comes back only if it knows all.
    faults += [f"{name} holds what Grafana's schema does not know"
               for name, text in found.items() if encode(models.Dashboard.from_json(json.loads(text))) != text]
    print("\n".join(faults), file=sys.stderr, end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
