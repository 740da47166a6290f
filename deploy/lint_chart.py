#!/usr/bin/env python3
"""Lints the Helm chart with Helm's own SDK and validates what it renders against the schemas of Kubernetes.

Rendered with its defaults and with every option turned on, for the oldest and the newest Kubernetes whose schemas
the validator carries. Also sees that the schema of the values refuses what it should.
"""

from __future__ import annotations

import pathlib
import sys

import helm_python as helm
import kubernetes_validate
import yaml

CHART = pathlib.Path(__file__).with_name("helm") / "reprise"
VERSIONS = ("1.25", "1.33")
# ServiceMonitor is a custom resource: no schema of it ships with Kubernetes.
CUSTOM_KINDS = {"ServiceMonitor"}

VALUES: dict[str, dict] = {
    "defaults": {},
    "everything": {
        "image": {"repository": "registry.example/reprise", "tag": "1", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "auth": {"existingSecret": "reprise-admin"},
        "models": {"pull": True, "names": ["all-minilm-l6-v2"]},
        "env": [{"name": "RUST_LOG", "value": "info"}],
        "envFrom": [{"secretRef": {"name": "upstream-keys"}}],
        "persistence": {
            "data": {"size": "20Gi", "storageClass": "fast"},
            "models": {"size": "10Gi", "storageClass": "slow"},
        },
        "replay": {"enabled": True, "budgetTokens": 2_000_000, "schedule": "0 */6 * * *"},
        "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "llm"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
    },
    "no replay, no pull": {"replay": {"enabled": False}, "models": {"pull": False}},
}
REFUSED = (
    {"nonsense": 1},
    {"service": {"port": 0}},
    {"persistence": {"data": {"size": "much"}, "models": {"size": "1Gi"}}},
    {"replay": {"schedule": "daily"}},
)


def problems() -> list[str]:
    found: list[str] = []
    for title, values in VALUES.items():
        report = helm.chart.lint(CHART, values, strict=True)
        found += [f"lint, {title}: {m['path']}: {m['error']}" for m in report["messages"] if m["severity"] >= 2]
        found += [f"lint, {title}: {error}" for error in report["errors"]]
    with helm.Chart.load(CHART) as chart:
        for title, values in VALUES.items():
            found += [f"{title}: {problem}" for problem in validate(chart.render(values, name="demo", namespace="llm"))]
        for values in REFUSED:
            try:
                chart.validate_schema(values)
            except helm.HelmError:
                continue
            found.append(f"values.schema.json accepts {values}")
    bogus = "kind: Service\napiVersion: v1\nmetadata: {name: x}\nspec: {port: 80}\n"
    if not any("port" in problem for problem in validate({f"{n}.yaml": bogus for n in range(5)})):
        found.append("the validator accepts a Service with an unknown field: it checks nothing")
    return found


def validate(manifests: dict[str, str]):
    seen = 0
    for path, text in manifests.items():
        if not path.endswith(".yaml"):
            continue
        for document in filter(None, yaml.safe_load_all(text)):
            seen += 1
            if document["kind"] in CUSTOM_KINDS:
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                    yield f"{path}: {document['kind']} for Kubernetes {version}: {error}"
    if seen < 5:
        yield f"only {seen} objects were rendered"


def main() -> int:
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"chart: {len(VALUES)} sets of values lint, render and validate for Kubernetes {' and '.join(VERSIONS)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
