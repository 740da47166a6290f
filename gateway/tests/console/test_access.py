"""For everybody: the keyboard alone, axe-core's rules in both themes, wide and on a phone, and nothing cut off at the narrowest."""

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


# What a viewer does not see whole: outside of the window, or of whatever cuts it off.
CUT_OFF = """() => [...document.querySelectorAll(".bar nav a, .bar select, .bar button:not([hidden]), .live")].filter((node) => {
  const box = node.getBoundingClientRect();
  const frames = [{ left: 0, right: window.innerWidth, top: 0, bottom: window.innerHeight }];
  for (let up = node.parentElement; up && up !== document.body; up = up.parentElement)
    if (getComputedStyle(up).overflowX !== "visible") frames.push(up.getBoundingClientRect());
  return !box.width || node.scrollWidth > node.clientWidth + 1 || frames.some((frame) =>
    box.left < frame.left - 0.5 || box.right > frame.right + 0.5 || box.top < frame.top - 0.5 || box.bottom > frame.bottom + 0.5);
}).map((node) => node.textContent.trim())"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 761, 390, 320])
def test_the_header_is_seen_whole_and_nothing_scrolls_sideways(open_page, gateway, theme, width):
    remembered(gateway, "What is the capital of Austria?")
    page = open_page(width=width, height=844, theme=theme)
    page.locator("#examples-list .example").first.wait_for()
    names = page.locator(".bar nav a").all_inner_texts()
    assert names == ["Overview", "Requests", "Tiers", "Examples", "Replay", "Chat"]
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    # A section that is gone to stands under the header, not behind it.
    for name in names:
        page.locator(".bar nav a", has_text=name).click()
        heading = page.locator(f"section#{name.lower()} h2").first
        if name != "Overview":
            bar, top = page.locator(".bar").bounding_box(), heading.bounding_box()
            assert top["y"] >= bar["y"] + bar["height"] - 1, name


def check(page):
    found = Axe().run(page).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    told = [(fault["id"], fault["help"], [node["html"][:200] for node in fault["nodes"]][:3]) for fault in grave]
    assert not told, told
