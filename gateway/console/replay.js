// Runs of the curation job, as it reported them.

import { get } from "./api.js";
import { $, empty, h } from "./dom.js";
import { ago, count, DASH, fixed, span } from "./format.js";

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

const STOPPED = {
  no_candidate_left: "all candidates done", saving_below_cost: "saving below cost", budget: "budget spent", pool_busy: "pool busy",
  best_tier_not_ready: "best tier not ready", lease_lost: "lease lost", interrupted: "interrupted", gateway_fails: "gateway failed",
};
const TROUBLE = ["lease_lost", "gateway_fails", "best_tier_not_ready"];

function table(runs) {
  const names = ["Received", "Ended", "Judge", "Considered", "Replayed", "Improved", "Tokens spent", "Expected saving", "Took"];
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table of runs" }, h("table", {},
    h("thead", {}, h("tr", {}, ...names.map((name, i) => h("th", { scope: "col", class: i > 2 ? "n" : null }, name)))),
    h("tbody", {}, ...runs.flatMap((run) => rows(run, names.length)))));
}

function rows({ received_at_ms: at, report = {} }, columns) {
  const improved = Array.isArray(report.improved) ? report.improved : [];
  const stopped = report.stopped_because;
  const row = h("tr", {},
    h("td", {}, at ? ago(at) : DASH),
    h("td", {}, h("span", { class: `tag ${TROUBLE.includes(stopped) ? "c-bad" : ""}` }, STOPPED[stopped] ?? stopped ?? DASH)),
    h("td", {}, report.judge ?? DASH),
    h("td", { class: "n" }, count(report.considered)),
    h("td", { class: "n" }, count(report.replayed)),
    h("td", { class: "n" }, count(improved.length + (report.improved_omitted ?? 0))),
    h("td", { class: "n" }, count(report.tokens_spent)),
    h("td", { class: "n" }, count(report.expected_tokens_saved)),
    h("td", { class: "n" }, span(report.duration_s)));
  if (!improved.length) return [row];
  return [row, h("tr", {}, h("td", { colspan: columns, class: "wide" },
    h("details", { class: "text-block" }, h("summary", {}, "What was improved"), ...improved.map(improvement))))];
}

function improvement(one) {
  const side = (name, text, quality) => h("div", {},
    h("p", { class: "meta" }, `${name}, quality ${fixed(quality)}`), h("p", { class: "text" }, text));
  return h("div", { class: "shown" },
    h("div", { class: "sides" }, side("Before", one.old_answer, one.old_quality), side("After", one.new_answer, one.new_quality)),
    h("p", { class: "meta" }, [one.why, `tenant ${one.tenant}`, `gain ${fixed(one.gain, 3)}`, one.id].filter(Boolean).join(", ")));
}
