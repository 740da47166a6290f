// One card for each tier: state, batch, queue, KV memory; of one that is spread over devices, what each does.

import { $, empty, h, meter } from "./dom.js";
import { count, fixed, percent, plural, span } from "./format.js";
import { heatMaps } from "./heat.js";
import { tierColour } from "./record.js";

/** Busy seconds of each device at the last look, by tier. */
const before = new Map();

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
  const devices = tier.devices ?? [];
  return h("article", { class: `panel card${devices.length ? " wide" : ""}` },
    h("div", { class: "card-head" }, h("h3", { class: `dot ${colour}` }, h("span", {}, tier.name)),
      h("span", { class: `tag ${state === "ready" ? "on" : state === "failed" ? "c-bad" : ""}` }, state)),
    h("p", { class: "model" }, tier.model, tier.remote ? " (remote)" : ""),
    reason && h("p", { class: "muted" }, String(reason)),
    h("dl", { class: "facts" }, fact("cost", fixed(tier.cost)),
      fact("context", tier.context_length ? count(tier.context_length) : "–"), fact("wait", span(p.queued_seconds)),
      fact("micro-queues", p.micro_queue_depth > 0 ? fixed(p.micro_queue_depth, 1) : "–")),
    p.places > 0 ? meter("batch", p.running / p.places, `${count(p.running)} of ${count(p.places)}`, colour)
      : meter("running", 0, count(p.running), colour),
    meter("queue", p.waiting / p.queue_capacity, `${count(p.waiting)} of ${count(p.queue_capacity)}`, colour),
    p.kv_blocks > 0 ? meter("KV blocks", p.kv_used, `${count(Math.round(p.kv_used * p.kv_blocks))} of ${count(p.kv_blocks)}`, colour)
      : !tier.remote && meter("KV memory", p.kv_used, percent(p.kv_used), colour),
    ...(devices.length > 0 ? spread(tier.name, devices, colour) : []));
}

function spread(name, devices, colour) {
  const busy = shares(name, devices);
  const parts = devices.map((device) => device.expert_parts);
  const most = Math.max(...parts);
  const balance = most > 0 ? parts.reduce((a, b) => a + b, 0) / parts.length / most : NaN;
  return [
    h("h4", {}, `Spread over ${plural(devices.length, "device")}`),
    ...devices.map((device, index) => meter(`device ${index}`, busy[index], Number.isFinite(busy[index]) ? `${percent(busy[index])} busy` : "–", colour)),
    meter("balance", balance, Number.isFinite(balance) ? fixed(balance) : "–", colour),
    h("div", { class: "maps" }, ...heatMaps(devices, colour)),
  ];
}

/** Of the time since the last look. */
function shares(name, devices) {
  const now = performance.now() / 1000;
  const seconds = devices.map((device) => device.busy_seconds);
  const last = before.get(name);
  before.set(name, { now, seconds });
  return seconds.map((busy, index) => {
    const since = last ? busy - last.seconds[index] : NaN;
    return since >= 0 ? Math.min(1, since / Math.max(0.001, now - last.now)) : NaN;
  });
}
