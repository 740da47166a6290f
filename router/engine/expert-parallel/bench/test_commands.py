"""Every command of this folder starts."""

import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent
COMMANDS = ["amoe.py", "matrix.py", "turns.py", "turns_report.py", "two_gpus"]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_says_how_it_is_used(command):
    done = subprocess.run([sys.executable, FOLDER / command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
