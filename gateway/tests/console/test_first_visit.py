"""An empty gateway: every part says what it is for and how to begin."""

import pytest
from asking import CONFIG
from reprise_process import Reprise


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    small = CONFIG[: CONFIG.rindex("[[tiers]]")].replace('default_tier = "large"', "")
    with Reprise(tmp_path_factory.mktemp("empty"), small) as running:
        yield running


def test_nothing_is_there_and_it_says_what_to_do(open_page, empty):
    page = open_page(url=empty.url)
    assert page.title() == "Reprise"
    text = page.locator("main").inner_text()
    assert "No request yet. Send one" in text
    assert "Nothing is remembered for tenant default yet" in text
    assert "The curation job has not run yet" in text
    assert "no answer was rated yet" in text
    assert page.locator("#tiers-list .card").count() == 1
    # The command that it offers is one that works.
    command = page.locator("#requests-empty code").inner_text()
    assert empty.url in command and "/v1/chat/completions" in command


def test_the_first_question_can_be_asked_on_the_page(open_page, empty):
    page = open_page(url=empty.url)
    page.get_by_label("Message").fill("What is the capital of Germany?")
    page.get_by_label("Message").press("Enter")
    page.locator("#chat-pane-left .chips", has_text="total").wait_for()
    assert page.locator("#chat-pane-left .turn").last.inner_text().strip()
    page.locator("#requests-body tr").wait_for()
    assert page.locator("#requests-empty").inner_text() == ""
