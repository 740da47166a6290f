// Runs of the curation job, as it reported them.

import { get } from "./api.js";
import { $, empty, h } from "./dom.js";
import { ago, count, fixed, span } from "./format.js";

export async function load() {
  let answer;
  try {
    answer = await get("/admin/v1/replay/runs");
  } catch (error) {
    $("replay-list").replaceChildren(empty(error.message));
    return;
  }
  const lease = answer.lease;
  $("replay-note").textContent = lease ? `${lease.holder} is at work, its lease ends in ${span(lease.expires_in_s)}` : "";
  const runs = answer.data ?? [];
  $("replay-list").replaceChildren(runs.length ? table(runs) : empty(
    "The curation job has not run yet. It asks the best tier again where an example earned little, and keeps the better answer. Run it when the pool is idle, or from cron:",
    `reprise-replay curate --gateway ${location.origin} --once`));
}

function table(runs) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Replay runs" }, h("table", {},
    h("thead", {}, h("tr", {}, ...["Received", "Result", "Replayed", "Improved", "Tokens", "Gain", "Took"].map((name, i) =>
      h("th", { scope: "col", class: i > 1 ? "n" : null }, name)))),
    h("tbody", {}, ...runs.map(({ received_at_ms: at, report = {} }) => h("tr", {},
      h("td", {}, at ? ago(at) : "–"),
      h("td", {}, h("span", { class: `tag ${report.error ? "c-bad" : ""}` }, String(report.result ?? report.stopped ?? report.stop ?? "–"))),
      h("td", { class: "n" }, count(report.replayed ?? report.candidates)),
      h("td", { class: "n" }, count(report.improved)),
      h("td", { class: "n" }, count(report.tokens)),
      h("td", { class: "n" }, fixed(report.quality_gain ?? report.gain, 3)),
      h("td", { class: "n" }, span(report.duration_s ?? report.seconds)))))));
}
