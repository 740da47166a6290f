"""`deploy/watch` starts a Prometheus that scrapes this machine's gateway and holds every alert."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import urllib.request

import yaml
from reprise_process import eventually, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_where_a_prometheus_runs_already_it_takes_the_next_port(tmp_path):
    (tmp_path / "prometheus").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "prometheus").chmod(0o755)

    def flags(*given: str) -> list[str]:
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run([ROOT / "deploy" / "watch", *given], env=environment, capture_output=True, text=True, timeout=60).stdout.split()

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Refused: then somebody else is there, which is as good.
        with contextlib.suppress(OSError):
            other.bind(("127.0.0.1", 9090))
            other.listen()
        assert "--web.listen-address=127.0.0.1:9091" in flags()
        given = flags("--web.listen-address=127.0.0.1:9100")
        assert [flag for flag in given if "listen" in flag] == ["--web.listen-address=127.0.0.1:9100"]


def test_one_command_scrapes_and_holds_the_rules(tmp_path):
    listen = f"127.0.0.1:{free_port()}"

    def ask(path: str):
        try:
            with urllib.request.urlopen(f"http://{listen}/api/v1/{path}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    # Both ways to give a flag that has a default.
    flags = ["--web.listen-address", listen, f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with (tmp_path / "log").open("wb") as log:
        prometheus = subprocess.Popen([ROOT / "deploy" / "watch", *flags], cwd=tmp_path, stdout=log, stderr=log)
    try:
        eventually("Prometheus answers", lambda: prometheus.poll() is not None or ask("status/runtimeinfo"))
        assert prometheus.poll() is None, (tmp_path / "log").read_text()
        targets = eventually("a target", lambda: ask("targets")["activeTargets"] or None)
        assert [target["scrapeUrl"] for target in targets] == ["http://127.0.0.1:8080/metrics"]
        held = {rule["name"] for group in ask("rules")["groups"] for rule in group["rules"] if rule["type"] == "alerting"}
        written = yaml.safe_load((ROOT / "dashboards" / "rules" / "alerts.yml").read_text())
        assert held == {rule["alert"] for group in written["groups"] for rule in group["rules"]}
    finally:
        prometheus.terminate()
        prometheus.wait(timeout=60)
