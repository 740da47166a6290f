// What the cache remembers of a tenant: read, order, find, delete, and what would be evicted next.

import { call, get } from "./api.js";
import { $, ask, empty, h, say } from "./dom.js";
import { ago, bytes, count, fixed, percent, plural } from "./format.js";

const PAGE = 50;
let loaded = [];
let hasMore = false;
let turn = 0;
let touched = false;
let searching;
/** A pause in typing. */
const TYPED_MS = 250;
/** However many are remembered, the list is not read more often. */
const AGAIN_MS = 1500;

const tenant = () => $("examples-tenant").value.trim() || "default";
const query = (path, extra = "") => `/admin/v1/examples${path}?tenant=${encodeURIComponent(tenant())}${extra}`;

export async function load(more = false) {
  const mine = (turn += 1);
  const after = more && loaded.length ? `&after=${encodeURIComponent(loaded.at(-1).id)}` : "";
  try {
    const page = await get(query("", `&order=${$("examples-order").value}&limit=${PAGE}${find() ? `&find=${encodeURIComponent(find())}` : ""}${after}`));
    if (mine !== turn) return;
    loaded = more ? [...loaded, ...page.data] : page.data;
    hasMore = page.has_more;
    draw();
  } catch (error) {
    if (mine === turn) $("examples-list").replaceChildren(empty(error.message));
  }
}

const find = () => $("examples-find").value.trim();

function draw() {
  const next = $("examples-order").value === "eviction";
  $("examples-more").hidden = !hasMore;
  $("examples-note").textContent = loaded.length
    ? `${count(loaded.length)}${hasMore ? "+" : ""} ${find() ? "found" : "loaded"}` : "";
  if (loaded.length) $("examples-list").replaceChildren(...loaded.map((example, at) => item(example, find().toLowerCase(), next ? at + 1 : null)));
  else if (find()) $("examples-list").replaceChildren(empty(`No example of tenant ${tenant()} holds this text.`));
  else $("examples-list").replaceChildren(empty(`Nothing is remembered for tenant ${tenant()} yet. Answers are kept as they are given; known good pairs can be imported:`, curl()));
}

const curl = () => `curl ${location.origin}/admin/v1/examples/import \\
  -H 'content-type: application/json' -H "authorization: Bearer $REPRISE_ADMIN_KEY" \\
  -d '{"tenant":"${tenant().replace(/[^\w.-]/g, "")}","examples":[{"request":"What is the capital of France?","answer":"Paris.","quality":1}]}'`;

/** The text with what was searched for marked. */
function marked(text, find) {
  if (!find) return [text];
  const parts = [];
  const lower = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(find); at >= 0 && lower.length === text.length; at = lower.indexOf(find, from)) {
    parts.push(text.slice(from, at), h("mark", {}, text.slice(at, at + find.length)));
    from = at + find.length;
  }
  return [...parts, text.slice(from)];
}

function item(example, find, place) {
  const facts = [
    place && `goes ${place === 1 ? "first" : `as number ${place}`}`,
    `by ${example.source_tier}`,
    `quality ${example.quality === null || example.quality === undefined ? "not measured" : fixed(example.quality)}`,
    `used ${count(example.uses)}×`,
    `value ${fixed(example.value)}`,
    `gain ${fixed(example.replay_gain, 3)}`,
    example.replays ? plural(example.replays, "replay") : null,
    example.merged ? `${count(example.merged)} merged` : null,
    bytes(example.bytes),
    ago(example.created_at_ms),
  ].filter(Boolean);
  const node = h("article", { class: "example" },
    h("p", { class: "ask" }, ...marked(example.request, find)),
    h("details", { class: "text-block answer" }, h("summary", { class: "clamp" }, ...marked(example.answer.slice(0, 240), find)),
      h("p", { class: "text" }, ...marked(example.answer, find))),
    h("p", { class: "meta" }, ...facts.map((fact) => h("span", {}, fact))),
    h("div", { class: "act" }, h("button", { type: "button", class: "danger", onclick: () => remove(example) }, "Delete")));
  return node;
}

async function remove(example) {
  const text = example.request.length > 200 ? `${example.request.slice(0, 200)}…` : example.request;
  if ((await ask({ title: "Delete this example?", text, yes: "Delete" })) === null) return;
  try {
    await call("DELETE", query(`/${encodeURIComponent(example.id)}`));
    loaded = loaded.filter((other) => other.id !== example.id);
    draw();
    say("Example deleted.");
  } catch (error) {
    say(`Not deleted: ${error.message}`);
  }
}

/** Something was remembered: the newest are shown, unless somebody is reading or looking for something. */
export function remembered() {
  const list = $("examples-list");
  const busy = list.scrollTop > 0 || list.contains(document.activeElement) || $("ask").open || list.querySelector("details[open]");
  if (busy || find() || $("examples-order").value !== "recent") return;
  clearTimeout(searching);
  searching = setTimeout(load, AGAIN_MS);
}

/** How full the cache is: eviction begins when it is full. */
export function knowSize(cache) {
  const budget = cache?.byte_budget ?? 0;
  $("examples-size").textContent = budget > 0
    ? `${bytes(cache.bytes)} of ${bytes(budget)} (${percent(cache.bytes / budget, 1)}); eviction begins when it is full` : "";
}

/** Until another tenant is typed, one that has something is shown. */
export function knowTenants(names) {
  const input = $("examples-tenant");
  if (names.length && !touched && !names.includes(input.value)) {
    input.value = names[0];
    load();
  }
  $("tenants").replaceChildren(...names.map((name) => h("option", { value: name })));
}

export function start() {
  $("examples-tenant").oninput = () => { touched = true; };
  $("examples-tenant").onchange = () => load();
  $("examples-order").onchange = () => load();
  $("examples-reload").onclick = () => load();
  $("examples-more").onclick = () => load(true);
  $("examples-find").oninput = () => {
    clearTimeout(searching);
    searching = setTimeout(load, TYPED_MS);
  };
}
