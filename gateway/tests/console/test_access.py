"""For everybody: the keyboard alone, and axe-core's rules in both themes, wide and on a phone."""

import pytest
from asking import remembered, with_examples
from axe_playwright_python.sync_playwright import Axe


def test_the_keyboard_is_enough(page, gateway):
    remembered(gateway, "What is the capital of Spain?")
    row = page.locator("#requests-body tr button").first
    row.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    label = row.get_attribute("aria-label")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == label:
            break
    else:
        raise AssertionError("the row is not reached by Tab")
    page.keyboard.press("Enter")
    page.locator("#why .arm, #why section").first.wait_for()
    page.wait_for_function("() => document.activeElement.id === 'why-h'")
    page.keyboard.press("Escape")
    page.locator("#why").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label

    page.locator("#examples-list .example button", has_text="Delete").first.focus()
    page.keyboard.press("Enter")
    page.locator("#ask").wait_for()
    page.keyboard.press("Escape")
    page.locator("#ask").wait_for(state="hidden")
    before = page.evaluate("document.documentElement.dataset.theme")
    page.locator("#theme").focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.documentElement.dataset.theme") != before


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault(open_page, gateway, theme, width):
    remembered(gateway, "What is the capital of Portugal?")
    request_id = with_examples(gateway, "Do you know the capital of Portugal?")
    page = open_page(width=width, theme=theme)
    page.locator("#examples-list .example").first.wait_for()
    check(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    page.locator(f'#requests-body tr[data-id="{request_id}"] button').click()
    page.locator("#why .shown").first.wait_for()
    check(page)
    page.keyboard.press("Escape")
    page.locator("#examples-list .example button", has_text="Delete").first.click()
    page.locator("#ask").wait_for()
    check(page)


def check(page):
    found = Axe().run(page).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    told = [(fault["id"], fault["help"], [node["html"][:200] for node in fault["nodes"]][:3]) for fault in grave]
    assert not told, told
