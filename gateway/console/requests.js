// The table of requests as they end, newest first.

import { $, empty, h } from "./dom.js";
import { clock, count, fixed, ms, plural } from "./format.js";
import { flat, tierColour } from "./record.js";
import { explain, explained } from "./why.js";

const ROWS = 200;
const KEPT = 4000;

/** Flat records, newest first; the plots read them too. */
export let rows = [];
let paused = false;
let late = 0;

const shown = () => {
  const cache = $("requests-filter").value;
  return rows.filter((row) => !cache || row.cache === cache).slice(0, ROWS);
};

export function load(records) {
  const seen = new Set();
  rows = [...records.map(flat), ...rows]
    .filter((row) => !seen.has(row.id) && seen.add(row.id))
    .sort((a, b) => b.at - a.at)
    .slice(0, KEPT);
  draw();
}

export function add(record) {
  const row = flat(record);
  if (rows.some((other) => other.id === row.id)) return;
  rows = [row, ...rows].slice(0, KEPT);
  if (paused) {
    late += 1;
    note();
    return;
  }
  const cache = $("requests-filter").value;
  if (!cache || row.cache === cache) {
    const body = $("requests-body");
    const tr = line(row);
    tr.classList.add("fresh");
    body.prepend(tr);
    while (body.children.length > ROWS) body.lastChild.remove();
    $("requests-empty").replaceChildren();
  }
  note();
}

function line(row) {
  const open = h("button", { type: "button", "aria-controls": "why", "aria-label": `Why: request at ${clock(row.at)}` }, clock(row.at));
  const tr = h("tr", { "data-id": row.id, "aria-current": row.id === explained() ? "true" : null },
    h("td", {}, open),
    h("td", {}, row.tenant ?? ""),
    h("td", {}, row.tier ? h("span", { class: `dot ${tierColour(row.tier)}` }, h("span", {}, row.tier)) : ""),
    h("td", {}, tag(row)),
    h("td", { class: "n" }, row.examples ? count(row.examples) : "–"),
    h("td", { class: "n" }, fixed(row.similarity)),
    h("td", { class: "n" }, ms(row.overhead)),
    h("td", { class: "n" }, ms(row.ttft)),
    h("td", { class: "n" }, ms(row.total)));
  tr.onclick = () => explain(row.id, open);
  return tr;
}

function tag(row) {
  if (row.failed) return h("span", { class: "tag c-bad", title: row.failed }, "error");
  const colour = { HIT: "c-hit", EXAMPLES: "c-tier-0" }[row.cache] ?? "";
  const name = { HIT: "stored answer", EXAMPLES: "examples", MISS: "miss", BYPASS: "bypass" }[row.cache] ?? row.cache;
  return h("span", { class: `tag ${colour}` }, name);
}

function note() {
  if (late) $("requests-note").textContent = `paused, ${count(late)} more since`;
  else $("requests-note").textContent = rows.length ? `newest first, last ${plural(rows.length, "request")}` : "";
}

function draw() {
  const list = shown();
  $("requests-body").replaceChildren(...list.map(line));
  $("requests-empty").replaceChildren();
  if (!list.length) {
    $("requests-empty").append(rows.length
      ? empty("No request of this kind among the loaded ones.")
      : empty("No request yet. Send one, or use the chat below:", example()));
  }
  note();
}

const example = () => `curl ${location.origin}/v1/chat/completions \\
  -H 'content-type: application/json' \\
  -d '{"model":"auto","messages":[{"role":"user","content":"What is the capital of France?"}]}'`;

export function start() {
  $("requests-filter").onchange = draw;
  $("requests-pause").onclick = () => {
    paused = !paused;
    late = 0;
    $("requests-pause").setAttribute("aria-pressed", String(paused));
    $("requests-pause").textContent = paused ? "Resume" : "Pause";
    draw();
  };
}
