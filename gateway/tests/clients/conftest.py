import os
import pathlib
import sys

import pytest

# The gateway as a child process is written once, with the tests of the official SDK.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sdk"))
# litellm would fetch its table of prices when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from reprise_process import Reprise  # noqa: E402
from session import CONFIG  # noqa: E402


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    with Reprise(tmp_path_factory.mktemp("clients"), CONFIG) as running:
        yield running


@pytest.fixture(scope="session")
def base_url(gateway):
    return f"{gateway.url}/v1"
