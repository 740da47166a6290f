"""The console in a real browser: headless Chromium, driven by Playwright, on the real gateway with the real small model."""

import os
import pathlib
import shutil
import sys

import pytest
from playwright.sync_api import sync_playwright

# The gateway as a child process is written once, with the tests of the SDK.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "sdk"))

from asking import CONFIG  # noqa: E402
from reprise_process import DEADLINE_S, Reprise  # noqa: E402

# Whatever Chromium would do by itself beyond showing the page.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]


def chromium() -> str:
    """REPRISE_CHROMIUM, as `deploy/check` sets it, or the one of this machine."""
    found = os.environ.get("REPRISE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise SystemExit("chromium was not found: deploy/check console fetches one")
    return found


def libraries() -> dict[str, str]:
    """Of an unpacked package they lie beside it; nothing else is to see them."""
    folder = os.environ.get("REPRISE_CHROMIUM_LIBRARIES")
    return {**os.environ, "LD_LIBRARY_PATH": folder} if folder else dict(os.environ)


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        # A new profile each time: Playwright makes one for `launch`.
        running = playwright.chromium.launch(executable_path=chromium(), args=FLAGS, env=libraries())
        yield running
        running.close()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    with Reprise(tmp_path_factory.mktemp("console"), CONFIG) as running:
        yield running


@pytest.fixture
def open_page(browser, gateway):
    """Opens the console; what the browser complains of, and whatever is fetched from elsewhere, fails the test."""
    contexts, faults = [], []

    def opened(width: int = 1280, height: int = 900, theme: str = "light", url: str | None = None):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        context.set_default_timeout(DEADLINE_S * 1000)
        contexts.append(context)
        page = context.new_page()
        own = url or gateway.url
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: request.url.startswith(own) or faults.append(f"fetched {request.url}"))
        page.goto(own)
        page.locator("#live[data-state=live]").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def page(open_page):
    return open_page()
