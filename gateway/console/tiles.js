// The overview's numbers.

import { $, h } from "./dom.js";
import { bytes, count, DASH, fixed, ms, money, rate, span } from "./format.js";

/** Rates are over so long. */
const WINDOW_MS = 15_000;
let seen = [];

export function draw(state) {
  const r = state.requests ?? {};
  const l = state.latency ?? {};
  const held = state.cache ? `${count(state.cache.examples)} examples in ${bytes(state.cache.bytes)}` : "cache off";
  const outcomes = [["stored", r.hit, "c-hit"], ["examples", r.examples, "c-tier-0"], ["miss", r.miss, "c-none plain"], ["bypass", r.bypass, "c-none"]];
  const priced = r.money_spent > 0 || r.money_saved > 0;
  $("tiles").replaceChildren(
    tile("Requests", perSecond(r.total), `${count(r.total)} since the start, ${count(r.errors)} failed, up ${span(state.uptime_s)}`),
    tile("Time to answer", duration(l.total_ms?.p50), `p99 ${ms(l.total_ms?.p99)}, gateway overhead p50 ${ms(l.overhead_ms?.p50)}`),
    tile("First token", duration(l.ttft_ms?.p50), `p99 ${ms(l.ttft_ms?.p99)}, of the last ${count(l.window)} requests`),
    tile("Quality", measured(r.mean_quality), r.measured ? `mean of ${count(r.measured)} answers that were rated` : "no answer was rated yet"),
    tile("Offloaded", share(r.offload_share), `${count(r.offloaded)} of ${count(r.routed)} routed, below the top tier`, split([[r.offloaded, "c-tier-0"], [r.routed - r.offloaded, "c-none plain"]])),
    tile("Cache", share(ratio(r.hit + r.examples, r.hit + r.examples + r.miss)), `${count(r.hit)} stored, ${count(r.examples)} with examples, ${count(r.miss)} missed; ${held}`, split(outcomes.map(([, n, colour]) => [n, colour]))),
    tile("Tokens saved", count(r.tokens_saved), `${count(r.completion_tokens)} generated, ${count(r.example_tokens)} spent on examples`),
    tile("Money saved", priced ? money(r.money_saved) : DASH, priced ? `${money(r.money_spent)} spent, by the tiers' prices` : "no tier has a price in the configuration"));
}

/** From the totals of the last polls; a dash until there are two. */
function perSecond(total) {
  const now = performance.now();
  if (seen.length && total < seen.at(-1).total) seen = [];
  seen = [...seen.filter((one) => now - one.at < WINDOW_MS), { at: now, total }];
  const first = seen[0];
  if (now - first.at < 500) return DASH;
  return [rate((1000 * (total - first.total)) / (now - first.at)), h("small", {}, "/s")];
}

const ratio = (part, whole) => (whole > 0 ? part / whole : NaN);
const measured = (value) => (Number.isFinite(value) ? fixed(value) : DASH);

function share(value) {
  return Number.isFinite(value) ? [(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0), h("small", {}, "%")] : DASH;
}

function duration(value) {
  const text = ms(value);
  const [number, unit] = text.split(" ");
  return unit ? [number, h("small", {}, unit)] : text;
}

function split(parts) {
  const known = parts.filter(([n]) => n > 0);
  return known.length ? h("div", { class: "split", "aria-hidden": "true" }, ...known.map(([n, colour]) => h("i", { class: colour, css: { flex: `${n} 0 0` } }))) : null;
}

function tile(label, value, sub, extra) {
  return h("dl", { class: "tile" }, h("dt", {}, label), h("dd", { class: "value" }, value), h("dd", { class: "sub" }, sub), extra && h("dd", { class: "split-cell" }, extra));
}
