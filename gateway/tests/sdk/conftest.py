import openai
import pytest
from reprise_process import Reprise


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    with Reprise(tmp_path_factory.mktemp("sdk")) as running:
        yield running


@pytest.fixture(scope="session")
def client(gateway):
    # No retries: a test that fails once has failed.
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none-needed-on-loopback", max_retries=0)
