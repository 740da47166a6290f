"""Every alert has a unit test and a runbook, and every runbook an alert."""

import pathlib

import yaml
from queries import FOLDER


def alerts() -> dict[str, dict]:
    groups = yaml.safe_load((FOLDER / "rules" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_every_alert_names_its_runbook_and_no_runbook_is_left_over():
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook_url"] == f"dashboards/runbooks/{name}.md"
        text = (FOLDER / "runbooks" / f"{name}.md").read_text()
        assert text.startswith(f"# {name}\n") and "## Look" in text and "## Do" in text
    assert {path.stem for path in (FOLDER / "runbooks").glob("*.md")} == set(alerts())


def test_every_alert_is_tested_to_fire():
    fired = set()
    for path in pathlib.Path(FOLDER / "rules").glob("alerts*_test.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            fired |= {check["alertname"] for check in case["alert_rule_test"] if check["exp_alerts"]}
    assert fired == set(alerts())
