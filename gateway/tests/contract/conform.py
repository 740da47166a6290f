"""schemathesis over the OpenAPI document that the real binary serves, against that binary with the real small model.

    python gateway/tests/contract/conform.py [--examples N] [--seconds S] [--seed N] [--report FOLDER]

Requests that the document admits, that nearly do, and that do not. None may get a 5xx, a status, header, content type or body that
the document does not have, or no answer; and what the document refuses must be refused. `GET /admin/v1/events` is left out, because it has
no end. The exit status is schemathesis' own.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk"))

from reprise_process import SMALL, Reprise  # noqa: E402

ADMIN_KEY = "admin-key-of-the-contract"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "event_conformance",
]
# Ends a hang; an answer of a few tokens takes well under a second.
REQUEST_TIMEOUT_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=12, help="of each operation and phase, at most")
    parser.add_argument("--seconds", type=int, help="go on for so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", help="folder for the run's record")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        key = pathlib.Path(home) / "admin.key"
        key.write_text(ADMIN_KEY)
        with Reprise(pathlib.Path(home), f'[auth]\nadmin_key_file = "{key}"\n{SMALL}') as gateway:
            status = run(gateway, options, home)
            if gateway.process.poll() is not None:
                print(f"the gateway ended:\n{gateway.log.read_text()[-4000:]}", file=sys.stderr)
                return 1
            if "panic" in gateway.log.read_text():
                print(f"a panic:\n{gateway.log.read_text()[-4000:]}", file=sys.stderr)
                return 1
            return status


def run(gateway: Reprise, options: argparse.Namespace, home: str) -> int:
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{gateway.url}/openapi.json",
        "--header", f"Authorization: Bearer {ADMIN_KEY}",
        "--checks", ",".join(CHECKS),
        "--exclude-operation-id", "followRequests",
        "--max-examples", str(options.examples),
        "--seed", str(options.seed),
        "--request-timeout", str(REQUEST_TIMEOUT_S),
        "--suppress-health-check", "all",
        "--generation-database", "none",
        "--continue-on-failure",
        "--no-color",
    ]
    if options.seconds:
        command += ["--max-time", str(options.seconds)]
    if options.report:
        command += ["--report", "ndjson", "--report-dir", options.report]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "PYTHONPATH": str(HERE)}
    return subprocess.run(command, cwd=home, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
