"""How long the console takes from a request's end to its row in the picture, and whether the page stays free for hands."""

from __future__ import annotations

import asyncio
import statistics

from .load import CONNECTIONS, connect, load, watching
from .statistic import quantile

# When the row of each request that has ended was in a frame that was painted; tasks over 50 ms; frames that came late.
WATCH = """() => {
  const now = () => performance.timeOrigin + performance.now();
  const seen = new Set();
  window.watched = { rows: [], tasks: [], frames: 0, late: 0, longest: 0 };
  const painted = (then) => requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel(); port1.onmessage = then; port2.postMessage(0); });
  new MutationObserver((records) => {
    const fresh = [];
    for (const { addedNodes } of records) for (const { dataset } of addedNodes)
      if (dataset?.state === "ended" && !seen.has(dataset.id)) { seen.add(dataset.id); fresh.push(dataset.id); }
    if (fresh.length) painted(() => { const at = now(); for (const id of fresh) watched.rows.push([id, at]); });
  }).observe(document.getElementById("requests-body"), { childList: true });
  new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => watched.tasks.push(duration))).observe({ type: "longtask" });
  let last = performance.now();
  const frame = (at) => {
    const took = at - last;
    watched.frames += 1; watched.late += took > 50; watched.longest = Math.max(watched.longest, took); last = at;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""

# From a press of the button that holds the list to the frame that shows it held, and back.
PRESS = """() => new Promise((done) => {
  const began = performance.now();
  document.getElementById("requests-pause").click();
  requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel(); port1.onmessage = () => done(performance.now() - began); port2.postMessage(0); });
})"""


async def measure(gateway, start_browser, rates: list[float], seconds: float) -> tuple[list[dict], list[dict]]:
    """A row for each request that was shown; a line for each rate."""
    rows, pages = [], []
    async with start_browser() as browser:
        for rate in rates:
            page = await watching(browser, gateway.url)
            # The gateway ends a connection on which nothing is asked for ten seconds.
            few = await connect(gateway.port, min(CONNECTIONS, int(rate)))
            await load(few, rate, 2)
            await page.evaluate(WATCH)
            ended: dict[str, float] = {}
            answered = await load(few, rate, seconds, ended)
            await asyncio.sleep(1)
            watched = await page.evaluate("watched")
            shown = [(request_id, at) for request_id, at in watched["rows"] if request_id in ended]
            rows += [{"rate": rate, "request_id": request_id, "ms": round(at - 1000 * ended[request_id], 2)} for request_id, at in shown]
            pictures = sorted({at for _, at in shown})
            pressed = await press(page, few, rate)
            pages.append({"rate": rate, "answered": answered, "shown": len(shown),
                          "longest_still_ms": round(max((b - a for a, b in zip(pictures, pictures[1:], strict=False)), default=0), 1),
                          "frames": watched["frames"], "late_frames": watched["late"], "longest_frame_ms": round(watched["longest"], 1),
                          "long_tasks": len(watched["tasks"]), "longest_task_ms": round(max(watched["tasks"], default=0), 1),
                          "press_p50_ms": round(statistics.median(pressed), 1), "press_most_ms": round(max(pressed), 1)})
            print(pages[-1], flush=True)
            await page.close()
    return rows, pages


async def press(page, clients, rate: float) -> list[float]:
    """The list is held and let go while requests go on."""
    going = asyncio.create_task(load(clients, rate, 12))
    pressed = []
    for _ in range(20):
        pressed.append(await page.evaluate(PRESS))
        await asyncio.sleep(0.4)
    await going
    return pressed


def table(rows: list[dict], pages: list[dict], seconds: float) -> list[str]:
    lines = ["## From a request's end to its row in the picture", "",
             f"{seconds:g} s at each rate; the load's clock when the answer was read whole, the page's after the frame with the row (`rows.csv`, `pages.csv`). "
             "Events are sent in bursts with 200 ms between, 10 at most: above 50 requests a second the list is a sample.", "",
             "| requests/s | shown | end to row, ms: p50 | p95 | most | the list stood still at most | frames over 50 ms | tasks over 50 ms (longest) | a press, ms: p50 (most) |",
             "|---|---|---|---|---|---|---|---|---|"]
    for page in pages:
        own = [row["ms"] for row in rows if row["rate"] == page["rate"]]
        lines.append(f"| {page['rate']:g} | {page['shown']} of {page['answered']} | {quantile(own, 0.5):.0f} | {quantile(own, 0.95):.0f} | {max(own):.0f} | "
                     f"{page['longest_still_ms']:.0f} ms | {page['late_frames']} of {page['frames']} | {page['long_tasks']} ({page['longest_task_ms']:.0f} ms) | "
                     f"{page['press_p50_ms']:.0f} ({page['press_most_ms']:.0f}) |")
    return lines + [""]
