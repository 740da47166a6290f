"""`deploy/nightly` keeps one line of a crontab: a stand-in for `crontab` holds it, and what cron would run is run."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OTHERS = "# mine\n0 5 * * 1  tar -cf /backup/$(date +\\%F).tar /home\n"

CRONTAB = """#!/bin/sh
case $1 in
-l) cat "$TABLE" ;;
-) cat >"$TABLE" ;;
esac
"""
REPLAY = """#!/bin/sh
echo "$@"
"""


@pytest.fixture
def clone(tmp_path):
    """A repository in a folder with a name that has to be quoted, with a stand-in for the binary."""
    root = tmp_path / "50% of mine"
    for folder in ("deploy", "target/release", "bin"):
        (root / folder).mkdir(parents=True)
    for name in ("nightly", "lib.sh"):
        (root / "deploy" / name).write_bytes((ROOT / "deploy" / name).read_bytes())
    for path, text in (("bin/crontab", CRONTAB), ("target/release/reprise-replay", REPLAY)):
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    (root / "table").write_text(OTHERS)
    return root


def nightly(clone: pathlib.Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name not in ("CARGO_TARGET_DIR", "REPRISE_ADMIN_KEY", "REPRISE_GATEWAY")}
    kept |= {"PATH": f"{clone}/bin:{kept['PATH']}", "TABLE": str(clone / "table")} | environment
    return subprocess.run(["bash", clone / "deploy" / "nightly", *arguments], env=kept, capture_output=True, text=True, timeout=60)


def table(clone: pathlib.Path) -> str:
    return (clone / "table").read_text()


def test_one_line_however_often_and_nothing_else_is_touched(clone):
    for arguments in ((), (), ("*/10 * * * *",)):
        assert nightly(clone, *arguments).returncode == 0
    assert table(clone).startswith(OTHERS)
    lines = table(clone).removeprefix(OTHERS).splitlines()
    assert len(lines) == 1 and lines[0].startswith("*/10 * * * * cd ")
    assert nightly(clone, "--remove").returncode == 0
    assert table(clone) == OTHERS


def test_what_cron_runs_curates_and_logs(clone):
    options = ("15 3 * * *", "--budget-tokens", "9", "--tenant", "a b")
    assert nightly(clone, *options, REPRISE_GATEWAY="http://127.0.0.1:9000").returncode == 0
    command = table(clone).removeprefix(OTHERS).split(" ", 5)[5]
    # As cron does it: everything after a bare percent sign would be its input, an escaped one is one.
    assert "%" not in command.replace("\\%", "")
    ran = subprocess.run(["/bin/sh", "-c", command.replace("\\%", "%")], cwd="/", env={"PATH": "/usr/bin:/bin"}, timeout=60)
    assert ran.returncode == 0
    assert (clone / "reprise-data" / "replay.log").read_text() == "curate --gateway http://127.0.0.1:9000 --once --budget-tokens 9 --tenant a b\n"


def test_an_admin_key_is_not_written_down_but_asked_for(clone):
    ran = nightly(clone, REPRISE_ADMIN_KEY="secret")
    assert "REPRISE_ADMIN_KEY" in ran.stderr and "secret" not in table(clone) + ran.stderr + ran.stdout


def test_without_the_binary_it_says_what_builds_it(clone):
    (clone / "target/release/reprise-replay").unlink()
    ran = nightly(clone)
    assert ran.returncode == 1 and "deploy/serve" in ran.stderr and table(clone) == OTHERS
