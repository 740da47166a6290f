"""Overview, tiers, cache browser, replay runs, and the chat box on two tiers."""

import itertools
import os
import pathlib
import re
import subprocess
import threading

from reprise_process import binary, eventually


def test_the_overview_tells_rates_and_savings(page, gateway):
    question = "What is the capital of Germany?"
    _, headers, _ = gateway.chat(question, model="small")
    for _ in range(3):
        assert gateway.chat(question, model="small")[1]["x-reprise-cache"] == "HIT"
    rated = gateway.call("POST", "/v1/feedback", {"request_id": headers["x-request-id"], "rating": 1.0})
    assert rated[0] == 202

    def tile(name: str) -> str:
        return page.locator("#tiles .tile").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$"))).inner_text()

    eventually("a rate", lambda: re.search(r"\d(\.\d)?/s", tile("Requests")))
    eventually("a quality", lambda: re.search(r"mean of [1-9]", tile("Quality")))
    eventually("money", lambda: re.search(r"\d.*spent", tile("Money saved"), re.S))
    assert re.search(r"[1-9]\d* stored", tile("Cache"))
    for name in ("Time to answer", "First token", "Offloaded", "Tokens saved"):
        assert re.search(r"\d", tile(name)), name


def test_a_spread_tier_shows_its_devices_and_experts(page, gateway):
    card = page.locator("#tiers-list .card", has_text="Spread over 2 devices")
    for name in ("batch", "queue", "KV blocks", "device 0", "device 1", "balance"):
        assert card.locator(".meter", has_text=name).count() == 1, name
    shown = threading.Event()

    def tell(first):
        # However soon an answer ends: one after the other, none of which can come from the cache.
        for n in itertools.count(first, 4):
            if shown.is_set():
                return
            gateway.chat(f"Count from {n} to {n + 30}.", "large", max_tokens=160)

    tellers = [threading.Thread(target=tell, args=(first,)) for first in range(4)]
    for teller in tellers:
        teller.start()
    try:
        page.locator("#tiers-list .card", has_text="Spread over").locator(".meter", has_text="batch").locator(
            "output", has_text=re.compile(r"^[1-4] of 4")).wait_for()
    finally:
        shown.set()
        for teller in tellers:
            teller.join()
    maps = card.locator(".heat-map")
    assert maps.count() == 2
    eventually("experts have computed", lambda: "sub-layer" in maps.nth(1).locator("figcaption").inner_text())
    # Experts of every third layer, four each, each cell says what it is.
    cells = maps.nth(1).locator("rect")
    assert cells.count() >= 16 and cells.count() % 4 == 0
    assert re.match(r"sub-layer \d+, expert \d+ on device [01]: ", cells.first.locator("title").text_content())
    assert float(card.locator(".meter", has_text="balance").locator("output").inner_text()) > 0.5


def test_the_cache_is_searched_on_the_gateway_and_says_what_evicts_next(page, gateway):
    pairs = [{"request": f"Invented fact number {n}?", "answer": f"Answer {n}.", "quality": 1.0} for n in range(60)]
    assert gateway.call("POST", "/admin/v1/examples/import", {"tenant": "default", "examples": pairs})[0] < 300
    page.reload()
    page.locator("#examples-more").wait_for()
    # More than a page: what is found was not loaded before.
    page.get_by_label("Find").fill("FACT NUMBER 7?")
    page.locator("#examples-note", has_text="1 found").wait_for()
    assert page.locator("#examples-list mark").first.inner_text() == "fact number 7?"
    page.get_by_label("Find").fill("")
    page.locator("#examples-note", has_text="loaded").wait_for()
    page.get_by_label("Order").select_option("eviction")
    page.locator("#examples-list .example", has_text="goes first").wait_for()
    assert "goes as number 2" in page.locator("#examples-list .example").nth(1).inner_text()
    assert re.search(r"of 256 MiB .*eviction begins", page.locator("#examples-size").inner_text())


def test_a_real_replay_run_is_shown(page, gateway):
    replay = pathlib.Path(os.environ.get("REPRISE_REPLAY_BINARY", binary().with_name("reprise-replay")))
    ran = subprocess.run([replay, "curate", "--gateway", gateway.url, "--once"], capture_output=True, text=True, timeout=170)
    assert ran.returncode == 0, ran.stderr
    page.reload()
    row = page.locator("#replay-list tbody tr").first
    row.wait_for()
    assert row.locator("td").nth(1).inner_text() in (
        "all candidates done", "saving below cost", "budget spent", "pool busy"), row.inner_text()
    assert re.search(r"\d", row.locator("td").nth(3).inner_text())


def test_a_run_shows_what_it_improved(page, gateway):
    better = {"id": "0", "tenant": "default", "old_answer": "Bonn.", "new_answer": "Berlin.", "old_quality": 0.1, "new_quality": 0.9,
              "gain": 0.4, "why": "the judge prefers it"}
    report = {"stopped_because": "budget", "judge": "side by side", "considered": 3, "replayed": 2, "improved": [better],
              "tokens_spent": 512, "expected_tokens_saved": 2048, "duration_s": 12.5}
    assert gateway.call("POST", "/admin/v1/replay/runs", report)[0] == 201
    page.reload()
    page.locator("#replay summary", has_text="What was improved").first.click()
    shown = page.locator("#replay .shown").first.inner_text()
    assert "Bonn." in shown and "Berlin." in shown and "0.90" in shown and "gain 0.400" in shown


def test_two_tiers_answer_side_by_side(page):
    page.locator("#chat-left").select_option("small")
    page.locator("#chat-right").select_option("large")
    page.get_by_label("Message").fill("What is the capital of Italy?")
    page.get_by_role("button", name="Send").click()
    for side, tier in (("left", "small"), ("right", "large")):
        pane = page.locator(f"#chat-pane-{side}")
        pane.locator(".chips", has_text="total").wait_for()
        assert f"tier {tier}" in pane.inner_text()
        assert len(pane.locator(".turn").last.locator(".text").inner_text()) > 2
    page.locator("#chat-pane-left button", has_text="Why").click()
    page.locator("#why", has_text="Answered").wait_for()
