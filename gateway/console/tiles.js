// The overview's numbers.

import { $, h } from "./dom.js";
import { bytes, count, DASH, ms, span } from "./format.js";

export function draw(state) {
  const r = state.requests ?? {};
  const l = state.latency ?? {};
  const held = state.cache ? `${count(state.cache.examples)} examples in ${bytes(state.cache.bytes)}` : "cache off";
  const outcomes = [["stored", r.hit, "c-hit"], ["examples", r.examples, "c-tier-0"], ["miss", r.miss, "c-none plain"], ["bypass", r.bypass, "c-none"]];
  $("tiles").replaceChildren(
    tile("Requests", count(r.total), [`${count(r.errors)} failed`, `up ${span(state.uptime_s)}`].join(", ")),
    tile("Offloaded", share(r.offload_share), `${count(r.offloaded)} of ${count(r.routed)} routed, below the top tier`, split([[r.offloaded, "c-tier-0"], [r.routed - r.offloaded, "c-none plain"]])),
    tile("Cache", share(ratio(r.hit + r.examples, r.hit + r.examples + r.miss)), `${count(r.hit)} stored, ${count(r.examples)} with examples, ${count(r.miss)} missed`, split(outcomes.map(([, n, colour]) => [n, colour]))),
    tile("Tokens saved", count(r.tokens_saved), `${count(r.completion_tokens)} generated, ${count(r.example_tokens)} spent on examples`),
    tile("Time to answer", duration(l.total_ms?.p50), `p99 ${ms(l.total_ms?.p99)}, overhead p50 ${ms(l.overhead_ms?.p50)}`),
    tile("First token", duration(l.ttft_ms?.p50), `p99 ${ms(l.ttft_ms?.p99)}, ${held}`));
}

const ratio = (part, whole) => (whole > 0 ? part / whole : NaN);

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

