// The table of requests: those under way, then those that have ended, newest first.

import { $, empty, h } from "./dom.js";
import { clock, count, fixed, ms, plural } from "./format.js";
import { begun, flat, tierColour } from "./record.js";
import { explain, explained } from "./why.js";

const ROWS = 200;
const KEPT = 4000;
/** Under way: no more are shown. */
const OPEN = 50;

/** Flat records that have ended, newest first; the plots read them too. */
export let rows = [];
let ids = new Set();
/** Under way, by id. */
const open = new Map();
let paused = false;
/** When events were last left out: there are more requests than are listed. */
let skipped = -Infinity;
const BUSY_MS = 5000;
let late = 0;
let noting = 0;

const wanted = (row) => {
  const cache = $("requests-filter").value;
  return !cache || row.cache === cache;
};

export function load(records) {
  const seen = new Set();
  rows = [...records.map(flat), ...rows]
    .filter((row) => !seen.has(row.id) && seen.add(row.id))
    .sort((a, b) => b.at - a.at)
    .slice(0, KEPT);
  ids = new Set(rows.map((row) => row.id));
  open.clear();
  draw();
}

/** One event of the gateway. */
export function happened(name, data) {
  const id = data.request_id;
  if (name === "begun" && !ids.has(id)) show(start(data));
  if (name === "answering" && open.has(id)) show(Object.assign(open.get(id), { tier: data.tier, examples: data.examples, state: "answering" }));
  if (name === "request") end(flat(data));
  if (name === "remembered") remember(id, data.example);
  // Whose end was skipped would stand there for good.
  if (name === "skipped") {
    for (const other of [...open.keys()]) forget(other);
    skipped = performance.now();
  }
  // Once for all events of a burst.
  noting ||= requestAnimationFrame(note);
}

function start(data) {
  const row = begun(data);
  open.set(row.id, row);
  if (open.size > OPEN) forget(open.keys().next().value);
  return row;
}

function forget(id) {
  open.delete(id);
  line(id)?.remove();
}

function end(row) {
  const waiting = open.get(row.id);
  open.delete(row.id);
  if (ids.has(row.id)) return;
  row.admitted ??= waiting?.admitted ?? null;
  rows.unshift(row);
  ids.add(row.id);
  if (rows.length > KEPT) ids.delete(rows.pop().id);
  if (paused) late += 1;
  show(row);
}

function remember(id, example) {
  const row = open.get(id) ?? rows.find((other) => other.id === id);
  if (!row) return;
  row.admitted = example;
  show(row);
}

const line = (id) => $("requests-body").querySelector(`tr[data-id="${CSS.escape(id)}"]`);

/** A new line on top, or the old one as it is now. */
function show(row) {
  if (paused) return;
  const old = line(row.id);
  if (!wanted(row)) {
    old?.remove();
    return;
  }
  if (old) {
    const focused = old.contains(document.activeElement);
    const tr = tableRow(row);
    old.replaceWith(tr);
    if (focused) tr.querySelector("button").focus();
    return;
  }
  const body = $("requests-body");
  const tr = tableRow(row);
  tr.classList.add("fresh");
  body.prepend(tr);
  while (body.children.length > ROWS) body.lastChild.remove();
  $("requests-empty").replaceChildren();
}

function tableRow(row) {
  const running = row.state !== "ended";
  const button = running ? h("span", {}, clock(row.at))
    : h("button", { type: "button", "aria-controls": "why", "aria-label": `Why: request at ${clock(row.at)}` }, clock(row.at));
  const tr = h("tr", { "data-id": row.id, "data-state": row.state, "aria-current": row.id === explained() ? "true" : null },
    h("td", {}, button),
    h("td", {}, state(row)),
    h("td", {}, row.tenant ?? ""),
    h("td", {}, row.tier ? h("span", { class: `dot ${tierColour(row.tier)}` }, h("span", {}, row.tier)) : ""),
    h("td", {}, running ? "" : tag(row)),
    h("td", { class: "n" }, row.examples ? count(row.examples) : "–"),
    h("td", { class: "n" }, fixed(row.similarity)),
    h("td", { class: "n" }, ms(row.overhead)),
    h("td", { class: "n" }, ms(row.ttft)),
    h("td", { class: "n" }, ms(row.total)));
  if (!running) tr.onclick = () => explain(row.id, button);
  return tr;
}

/** From sent to remembered. */
function state(row) {
  if (row.state === "sent") return h("span", { class: "state" }, "sent");
  if (row.state === "answering") return h("span", { class: "state live-dot" }, "answering");
  if (row.failed) return h("span", { class: "state c-bad" }, "failed");
  return row.admitted ? h("span", { class: "state c-good", title: `example ${row.admitted}` }, "remembered") : h("span", { class: "state" }, "answered");
}

function tag(row) {
  if (row.failed) return h("span", { class: "tag c-bad", title: row.failed }, "error");
  const colour = { HIT: "c-hit", EXAMPLES: "c-tier-0" }[row.cache] ?? "";
  const name = { HIT: "stored answer", EXAMPLES: "examples", MISS: "miss", BYPASS: "bypass" }[row.cache] ?? row.cache;
  return h("span", { class: `tag ${colour}` }, name);
}

function note() {
  noting = 0;
  const running = open.size ? `${count(open.size)} under way, ` : "";
  if (paused) $("requests-note").textContent = `paused${late ? `, ${count(late)} more since` : ""}`;
  else if (performance.now() - skipped < BUSY_MS) $("requests-note").textContent = "more come than are listed: some of them, newest first";
  else $("requests-note").textContent = rows.length || open.size ? `${running}newest first, last ${plural(rows.length, "request")}` : "";
}

function draw() {
  const list = [...[...open.values()].reverse(), ...rows].filter(wanted).slice(0, ROWS);
  $("requests-body").replaceChildren(...list.map(tableRow));
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

export function begin() {
  $("requests-filter").onchange = draw;
  $("requests-pause").onclick = () => {
    paused = !paused;
    late = 0;
    $("requests-pause").setAttribute("aria-pressed", String(paused));
    $("requests-pause").textContent = paused ? "Resume" : "Pause";
    draw();
  };
}
