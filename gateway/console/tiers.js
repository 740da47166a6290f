// One card for each tier: state, queue, KV memory.

import { $, empty, h, meter } from "./dom.js";
import { count, fixed, percent, span } from "./format.js";
import { tierColour } from "./record.js";

export function draw(pool, router) {
  const tiers = pool?.tiers ?? [];
  $("tiers-list").replaceChildren(...(tiers.length
    ? tiers.map(card)
    : [empty("No tier is configured. Name one in the configuration file and start again.", "[[tiers]]\nname = \"small\"\nmodel = \"smollm2-135m-instruct-q4_1\"\ncost = 0.1")]));
  const bias = router?.load_bias;
  $("tiers-note").textContent = tiers.length
    ? [`pool load ${fixed(pool.load)}`, pool.idle && "idle", bias && `load bias ${fixed(bias.bias, 3)} above θ ${fixed(bias.theta)}`].filter(Boolean).join(", ")
    : "";
}

function stateOf(tier) {
  return typeof tier.state === "string" ? tier.state : tier.state?.state ?? Object.keys(tier.state ?? {})[0] ?? "unknown";
}

function card(tier) {
  const p = tier.pressure ?? {};
  const state = stateOf(tier);
  const reason = typeof tier.state === "object" ? tier.state.reason ?? tier.state.failed : tier.reason;
  const colour = tierColour(tier.name);
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h("article", { class: "panel card" },
    h("div", { class: "card-head" }, h("h3", { class: `dot ${colour}` }, h("span", {}, tier.name)),
      h("span", { class: `tag ${state === "ready" ? "on" : state === "failed" ? "c-bad" : ""}` }, state)),
    h("p", { class: "model" }, tier.model, tier.remote ? " (remote)" : ""),
    reason && h("p", { class: "muted" }, String(reason)),
    h("dl", { class: "facts" }, fact("running", count(p.running)), fact("cost", fixed(tier.cost)),
      fact("context", tier.context_length ? count(tier.context_length) : "–"), fact("wait", span(p.queued_seconds))),
    meter("queue", p.waiting / p.queue_capacity, `${count(p.waiting)} of ${count(p.queue_capacity)}`, colour),
    meter("KV memory", p.kv_used, percent(p.kv_used), colour));
}
