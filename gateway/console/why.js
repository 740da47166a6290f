// Why a request was answered as it was: arms, examples, timings.

import { get } from "./api.js";
import { $, empty, h, meter, s } from "./dom.js";
import { clock, count, fixed, ms, plural } from "./format.js";
import { flat, tierColour, tierName } from "./record.js";

let current = null;
let opener = null;

export const explained = () => current;

export async function explain(id, from) {
  current = id;
  opener = from ?? null;
  markRow();
  $("why").hidden = false;
  document.body.classList.add("explaining");
  try {
    const record = await get(`/admin/v1/router/decisions/${encodeURIComponent(id)}`);
    if (current === id) draw(record);
  } catch (error) {
    if (current === id) $("why-body").replaceChildren(empty(error.status === 404
      ? "This request has left the gateway's memory: it keeps the newest ones only."
      : error.message));
  }
  $("why-h").focus({ preventScroll: true });
}

function close() {
  // The line that it was opened from may have been drawn anew meanwhile.
  const line = () => $("requests-body").querySelector(`tr[data-id="${CSS.escape(current)}"] button`);
  const back = opener?.isConnected ? opener : line();
  current = null;
  markRow();
  $("why").hidden = true;
  document.body.classList.remove("explaining");
  back?.focus();
}

function markRow() {
  for (const tr of $("requests-body").children) {
    if (tr.dataset.id === current) tr.setAttribute("aria-current", "true");
    else tr.removeAttribute("aria-current");
  }
}

export function start() {
  $("why-close").onclick = close;
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("why").hidden && !$("ask").open) close();
  });
}

const section = (title, ...children) => h("section", {}, h("h3", {}, title), ...children);

function draw(record) {
  const row = flat(record);
  const decision = record.decision;
  $("why-body").replaceChildren(
    h("section", {},
      h("p", { class: "lead" }, lead(row, record)),
      record.error && h("p", { class: "c-bad" }, record.error),
      h("p", { class: "meta" }, `${clock(row.at)}, tenant ${row.tenant}, policy ${decision?.policy ?? "–"}, `, h("code", {}, row.id)),
      record.usage && h("p", { class: "meta" }, usage(record)),
      record.admitted && h("p", { class: "meta" }, "Remembered as example ", h("code", {}, record.admitted))),
    section("Arms", ...arms(record, row)),
    section(record.examples?.length ? `Examples shown to the model (${record.examples.length})` : "Examples", ...examples(record)),
    section("Where the time went", ...stages(record.timings ?? {})));
}

function lead(row, record) {
  if (row.failed) return "This request failed.";
  if (row.cache === "HIT") return `Answered from the store, written earlier by ${row.tier}: an exact repeat needs no model.`;
  const wanted = record.decision?.key;
  if (record.arm && wanted && !same(record.arm, wanted)) {
    return `${armName(wanted)} was chosen, but could not answer; ${armName(record.arm)} did.`;
  }
  const decision = record.decision;
  if (record.straight) return `Answered by ${row.tier}, straight past cache and router, which were late or failed.`;
  const by = `Answered by ${row.tier}${row.examples ? ` with ${plural(row.examples, "example")}` : " without examples"}`;
  return decision?.reason ? `${by}: ${decision.reason}.`.replace("..", ".") : `${by}.`;
}

function usage({ usage: u, rating }) {
  const saved = u.prompt_tokens_details?.cached_tokens;
  return [`${plural(u.prompt_tokens, "prompt token")}`, `${plural(u.completion_tokens, "completion token")}`,
    saved && `${count(saved)} from the prefix cache`, rating !== undefined && rating !== null && `rated ${fixed(rating)}`].filter(Boolean).join(", ");
}

const same = (a, b) => a && b && a.tier === b.tier && a.examples === b.examples;
const armName = (key) => `${key.tier}${key.examples ? " with examples" : ""}`;

function arms({ decision, arm: used }, row) {
  const answered = used ?? decision?.key;
  const scores = decision?.scores ?? [];
  if (!scores.length) return [h("p", { class: "muted" }, row.cache === "HIT" ? "No arm was scored: the store answered." : "No arm was scored.")];
  const points = scores.flatMap((a) => [a.mu - a.sigma, a.mu + a.sigma, a.sampled, a.score]).filter(Number.isFinite);
  const low = Math.min(0, ...points);
  const high = Math.max(1, ...points);
  return [
    ...scores.map((score) => arm(score, same(score.key, answered), (v) => (100 * (v - low)) / (high - low))),
    leftOut(decision.excluded ?? []),
    h("p", { class: "meta" }, "Bar: expected quality μ. Line: μ ± σ. Ring: the sample drawn. Tick: the score, sample less load bias."),
  ].filter(Boolean);
}

const REASONS = {
  not_pinned: "another tier was asked for", not_ready: "not ready", saturated: "its queue is full",
  no_examples: "no example to show", too_long: "the prompt would not fit",
};

function leftOut(excluded) {
  const list = excluded.map(({ arm: { tier, examples: withExamples }, reason }) =>
    `${armName({ tier: tierName(tier), examples: withExamples })} (${REASONS[reason] ?? reason})`);
  return list.length ? h("p", { class: "meta" }, `Left out: ${list.join(", ")}.`) : null;
}

function arm(score, isChosen, x) {
  const { tier } = score.key;
  const pct = (value) => `${x(value)}%`;
  const svg = s("svg", { class: tierColour(tier), "aria-hidden": "true" },
    s("rect", { class: "arm-track", x: 0, y: 7, width: "100%", height: 4, rx: 2 }),
    s("rect", { class: "arm-mu", x: pct(Math.min(0, score.mu)), y: 4, width: `${Math.max(0, Math.abs(x(score.mu) - x(0)))}%`, height: 10, rx: 2 }),
    s("line", { class: "arm-sigma", x1: pct(score.mu - score.sigma), x2: pct(score.mu + score.sigma), y1: 9, y2: 9 }),
    s("rect", { class: "arm-score", x: pct(score.score), y: 0, width: 2.5, height: 18, rx: 1 }),
    s("circle", { class: "arm-sampled", cx: pct(score.sampled), cy: 9, r: 4 }));
  return h("div", { class: `arm${isChosen ? " chosen" : ""}` },
    h("div", { class: "name" }, h("span", { class: `dot ${tierColour(tier)}` }, h("span", {}, armName(score.key))),
      isChosen && h("span", { class: "tag on" }, "answered")),
    h("span", { class: "score" }, fixed(score.score, 3)),
    svg,
    h("div", { class: "numbers" }, ...[["μ", score.mu], ["σ", score.sigma], ["sampled", score.sampled], ["cost", score.cost], ["load bias", score.bias]]
      .map(([name, value]) => h("span", {}, `${name} ${fixed(value, 3)}`))));
}

function examples(record) {
  const list = record.examples ?? [];
  if (!list.length) return [h("p", { class: "muted" }, "None was shown to the model.")];
  // Stored order is the prompt's: the most useful stands last, nearest the question.
  return [...list].reverse().map((example) => h("div", { class: "shown" },
    h("p", { class: "q text" }, example.request ?? "(no longer in the cache)"),
    example.answer && h("details", { class: "text-block" }, h("summary", { class: "clamp" }, example.answer.slice(0, 160)), h("p", { class: "text" }, example.answer)),
    h("div", { class: "bars" },
      meter("similarity", example.similarity, fixed(example.similarity, 3), "c-tier-2"),
      meter("utility", example.utility, fixed(example.utility, 3), "c-tier-0")),
    h("p", { class: "meta" }, [plural(example.tokens, "prompt token"), example.source && `written by ${example.source}`, example.id].filter(Boolean).join(", "))));
}

/** Each stage with its name and its own colour. */
const STAGES = {
  parse: ["parse", 0], exact: ["exact lookup", 1], embed: ["embed", 2], retrieve: ["retrieve", 3], select: ["select", 4],
  route: ["route", 5], queued: ["queue", 6], prefill: ["prefill", 7], decode: ["decode", 8],
};

function stages(timings) {
  const whole = timings.total_ms;
  const derived = { ...timings };
  if (derived.ttft_ms > 0 && whole > derived.ttft_ms && derived.decode_ms === undefined) derived.decode_ms = whole - derived.ttft_ms;
  const parts = Object.entries(derived)
    .filter(([name, value]) => !["total_ms", "overhead_ms", "ttft_ms"].includes(name) && value > 0)
    .map(([key, value]) => {
      const [name, colour] = STAGES[key.replace(/_ms$/, "")] ?? [key, 9];
      return { name, colour: `stage-${colour}`, value };
    });
  const sum = parts.reduce((total, part) => total + part.value, 0);
  if (whole > sum * 1.001) parts.push({ name: sum ? "other" : "total", colour: "stage-9", value: whole - sum });
  const all = Math.max(sum, whole ?? 0);
  if (!parts.length || !all) return [h("p", { class: "muted" }, "No timing was kept.")];
  return [
    h("div", { class: "stack", "aria-hidden": "true" }, ...parts.map((part) =>
      h("i", { class: part.colour, css: { flex: `${(100 * part.value) / all} 0 0` }, title: `${part.name} ${ms(part.value)}` }))),
    h("ul", { class: "legend" }, ...parts.map((part) =>
      h("li", {}, h("span", { class: `key ${part.colour}` }), `${part.name} ${ms(part.value)}`))),
    h("p", { class: "meta" }, `Total ${ms(whole)}, first token after ${ms(timings.ttft_ms)}, gateway overhead ${ms(timings.overhead_ms)}.`),
  ];
}
