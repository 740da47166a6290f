"""A real Prometheus with the rules of this repository, scraping gateways of a test."""

from __future__ import annotations

import json
import math
import pathlib
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import yaml
from queries import FOLDER, Query
from reprise_process import eventually, free_port


class Prometheus:
    def __init__(self, home: pathlib.Path, targets: list[int], rules: pathlib.Path = FOLDER) -> None:
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(rules / file) for file in config["rule_files"]]
        for job in config["scrape_configs"]:
            job.pop("file_sd_configs")
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets]}]
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.port, self.home = free_port(), home

    def __enter__(self) -> Prometheus:
        self.log = (self.home / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.home}/prometheus.yml", f"--storage.tsdb.path={self.home}/tsdb",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=self.log, stderr=self.log,
        )
        eventually("Prometheus is ready", self._ready)
        return self

    def __exit__(self, *_failure) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()

    def _ready(self) -> bool:
        assert self.process.poll() is None, (self.home / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def get(self, path: str, **query: str):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            return {"error": error.read().decode()}

    def names(self) -> set[str]:
        return set(self.get("label/__name__/values"))

    def problem(self, query: Query, names: set[str]) -> str | None:
        """Why this query would show nothing; None if it shows something."""
        metrics = query.metrics()
        if not metrics:
            return "it names no metric"
        if unknown := sorted(metrics - names):
            return f"unknown metrics: {', '.join(unknown)}"
        data = self.get("query", query=query.expr)
        if "error" in data:
            return data["error"]
        values = [sample["value"][1] for sample in data["result"]] if data["resultType"] == "vector" else [data["result"][1]]
        if not values:
            return "no data"
        if all(math.isnan(float(value)) for value in values):
            return "only NaN"
        return None
