"""A request from sent to remembered, and why it was answered as it was."""

import re
import threading

from asking import decision, remembered, with_examples

QUESTION = "What is the capital of Germany?"
NEAR = "Tell me, please: what is the capital of Germany?"

# Every state that the line of a request is drawn in, in order; lines that replace one another in one step are seen too.
WATCH = """() => {
  window.states = [];
  const look = (node) => node.dataset?.id && window.states.push([node.dataset.id, node.querySelector(".state").textContent]);
  new MutationObserver((records) => records.forEach((record) => record.addedNodes.forEach(look)))
    .observe(document.getElementById("requests-body"), { childList: true });
}"""


def why(page, request_id: str):
    page.locator(f'#requests-body tr[data-id="{request_id}"] button').click()
    panel = page.locator("#why")
    panel.locator("code", has_text=request_id).wait_for()
    return panel


def test_a_request_is_followed_from_sent_to_remembered(page, gateway):
    page.evaluate(WATCH)
    answer = {}
    asked = threading.Thread(target=lambda: answer.update(id=remembered(gateway, "What is the capital of Poland?")))
    asked.start()
    asked.join()
    page.wait_for_function("id => window.states.some(([of, state]) => of === id && state === 'remembered')", arg=answer["id"])
    told = [state for request_id, state in page.evaluate("window.states") if request_id == answer["id"]]
    assert told[0] == "sent" and told[-1] == "remembered", told
    # A tier's first words may come in the same burst as its last, never after them.
    assert [state for state in told if state in ("sent", "answering")] == ["sent", "answering"], told


def test_why_shows_examples_and_arms(page, gateway):
    remembered(gateway, QUESTION)
    request_id = with_examples(gateway, NEAR)
    record = decision(gateway, request_id)
    panel = why(page, request_id)

    shown = panel.locator(".shown")
    assert shown.count() == len(record["examples"]) > 0
    for card, example in zip(shown.all(), reversed(record["examples"]), strict=True):
        text = card.inner_text()
        assert example["request"] in text and f'{example["similarity"]:.3f}' in text and f'{example["utility"]:.3f}' in text

    arms = panel.locator(".arm")
    scores = record["decision"]["scores"]
    assert arms.count() == len(scores) >= 2
    for card, score in zip(arms.all(), scores, strict=True):
        numbers = card.inner_text()
        for name in ("mu", "sigma", "cost", "bias"):
            assert f"{score[name]:.3f}" in numbers, (name, score, numbers)
    assert panel.locator(".arm.chosen").count() == 1
    assert record["arm"]["tier"] in panel.locator(".arm.chosen .name").inner_text()
    assert "load bias" in panel.locator(".arm.chosen").inner_text()
    assert re.search(r"Total .* first token after", panel.inner_text())


def test_a_deleted_example_is_gone_from_the_next_decision(page, gateway):
    question = "What is the capital of Norway?"
    remembered(gateway, question)
    before = with_examples(gateway, f"Please say: {question}")
    shown = {example["request"] for example in decision(gateway, before)["examples"]}
    assert question in shown

    page.reload()
    # Whatever was learned from the near questions goes with it.
    page.get_by_label("Find").fill("Norway")
    page.locator("#examples-note", has_text="found").wait_for()
    while page.locator("#examples-list .example", has_text="Norway").count():
        left = page.locator("#examples-list .example").count()
        page.locator("#examples-list .example button", has_text="Delete").first.click()
        page.locator("#ask").wait_for()
        assert "Norway" in page.locator("#ask-text").inner_text()
        page.locator("#ask-yes").click()
        page.wait_for_function("left => document.querySelectorAll('#examples-list .example').length === left - 1", arg=left)
    page.locator("#examples-list", has_text="No example").wait_for()

    status, headers, _ = gateway.chat(f"Now say: {question}")
    assert status == 200
    after = decision(gateway, headers["x-request-id"])
    assert not any("Norway" in example["request"] for example in after["examples"])
    panel = why(page, headers["x-request-id"])
    assert question not in panel.locator("section", has_text="Examples").all_inner_texts()[-1]


def test_the_table_can_be_filtered_and_paused(page, gateway):
    for _ in range(2):
        gateway.chat(QUESTION, model="small")
    page.locator("#requests-body tr", has_text="stored answer").first.wait_for()
    page.get_by_label("Show").select_option("HIT")
    rows = page.locator("#requests-body tr")
    assert rows.count() > 0 and all("stored answer" in row for row in rows.all_inner_texts())
    page.get_by_label("Show").select_option("")
    page.get_by_role("button", name="Pause").click()
    before = rows.count()
    gateway.chat(QUESTION, model="small")
    page.locator("#requests-note", has_text="more since").wait_for()
    assert rows.count() == before
    page.get_by_role("button", name="Resume").click()
    page.wait_for_function("n => document.querySelectorAll('#requests-body tr').length > n", arg=before)
