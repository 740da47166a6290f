#!/usr/bin/env python3
"""Pictures of the console for the README, of the real gateway after real requests: both themes, and a phone.

    REPRISE_BINARY=... REPRISE_CHROMIUM=... python gateway/tests/console/screenshots.py gateway/console
"""

import contextlib
import itertools
import pathlib
import sys
import tempfile
import threading

from conftest import FLAGS, chromium, libraries
from playwright.sync_api import sync_playwright

from asking import CONFIG
from reprise_process import Reprise

CAPITALS = ["Germany", "France", "Italy", "Spain", "Portugal", "Norway", "Poland", "Greece", "Austria", "Ireland"]
WAYS = ["What is the capital of {}?", "Tell me the capital city of {}.", "Which city is the capital of {}?", "{}: what is its capital?"]


def traffic(gateway: Reprise) -> None:
    for way in WAYS:
        for number, country in enumerate(CAPITALS):
            status, headers, _ = gateway.chat(way.format(country))
            if status == 200 and number % 3 == 0:
                gateway.call("POST", "/v1/feedback", {"request_id": headers["x-request-id"], "rating": 1.0 if number % 2 else 0.5})
    for country in CAPITALS:
        gateway.chat(WAYS[0].format(country))
    gateway.chat("How many legs has a spider?", model="nobody")
    gateway.chat("Is the earth round?", headers={"x-reprise-cache": "off"})


@contextlib.contextmanager
def steadily(gateway: Reprise):
    """While the pictures are taken it is in use."""
    ends = threading.Event()

    def ask() -> None:
        for number in itertools.count():
            if ends.wait(0.4):
                return
            country = CAPITALS[number % len(CAPITALS)]
            gateway.chat(WAYS[number % len(WAYS)].format(country), model="large" if number % 4 == 0 else "auto",
                         headers={"cache-control": "no-cache"} if number % 3 else {})

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    ends.wait(20)
    yield
    ends.set()
    for asker in askers:
        asker.join()


def stories(gateway: Reprise) -> list[threading.Thread]:
    """The experts are at work for a while."""
    tellers = [threading.Thread(target=gateway.chat, args=(f"Tell a long story about ship number {n}.", "large"),
                                kwargs={"max_tokens": 700, "temperature": 1.2}) for n in range(4)]
    for teller in tellers:
        teller.start()
    return tellers


def shoot(browser, gateway: Reprise, folder: pathlib.Path, name: str, width: int, height: int, theme: str, whole: bool, why: bool,
          at: str | None = None) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce",
                                  device_scale_factor=2 if width < 600 else 1)
    page = context.new_page()
    page.goto(gateway.url)
    page.locator("#live[data-state=live]").wait_for()
    page.wait_for_function("() => document.querySelector('#tiles .value small')?.textContent === '/s'")
    if why:
        page.locator("#requests-body tr", has_text="examples").filter(has_text="small").locator("button").first.click()
        page.locator("#why .shown").first.wait_for()
    if at:
        page.evaluate("at => document.querySelector(at).scrollIntoView()", at)
        page.wait_for_timeout(4500)
    page.screenshot(path=folder / f"{name}.png", full_page=whole)
    context.close()


def main(folder: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as home, Reprise(pathlib.Path(home), CONFIG) as gateway, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS, env=libraries())
        traffic(gateway)
        with steadily(gateway):
            shoot(browser, gateway, folder, "screenshot", 1440, 900, "light", False, True)
            shoot(browser, gateway, folder, "screenshot-dark", 1440, 1000, "dark", False, False)
            tellers = stories(gateway)
            shoot(browser, gateway, folder, "screenshot-tiers", 1440, 800, "dark", False, False, "#tiers")
            for teller in tellers:
                teller.join()
            shoot(browser, gateway, folder, "screenshot-phone", 390, 844, "light", False, False)
        browser.close()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
