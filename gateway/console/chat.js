// A chat box over the public interface, side by side for two models.

import { events, call } from "./api.js";
import { $, h, say } from "./dom.js";
import { ms } from "./format.js";
import { explain } from "./why.js";

const SHOWN = ["tier", "cache", "examples", "similarity", "overhead-ms"];
const sides = {
  left: { select: "chat-left", pane: "chat-pane-left", turns: [] },
  right: { select: "chat-right", pane: "chat-pane-right", turns: [] },
};
let running = null;

export function knowModels(names) {
  for (const [name, side] of Object.entries(sides)) {
    const select = $(side.select);
    const options = [...(name === "right" ? [""] : []), "auto", ...names];
    if ([...select.options].map((o) => o.value).join() === options.join()) continue;
    const chosen = select.value;
    select.replaceChildren(...options.map((value) => h("option", { value }, value || "none")));
    if (options.includes(chosen)) select.value = chosen;
  }
}

function draw() {
  $("chat-pane-right").hidden = !$("chat-right").value;
  for (const side of Object.values(sides)) {
    if (!side.turns.length) {
      $(side.pane).replaceChildren(h("p", { class: "muted" }, `Ask ${$(side.select).value || "a model"} something. Each answer says which tier gave it and why.`));
    }
  }
}

function busy(is) {
  $("chat-stop").hidden = !is;
  $("chat-form").querySelector("[type=submit]").disabled = is;
}

async function send(text) {
  running = new AbortController();
  busy(true);
  const active = Object.values(sides).filter((side) => $(side.select).value);
  await Promise.all(active.map((side) => turn(side, $(side.select).value, text, running.signal)));
  busy(false);
  running = null;
}

async function turn(side, model, text, signal) {
  const pane = $(side.pane);
  if (!side.turns.length) pane.replaceChildren();
  side.turns.push({ role: "user", content: text });
  const out = h("div", { class: "text" });
  const chips = h("div", { class: "chips" });
  pane.append(h("div", { class: "turn user text" }, text), h("div", { class: "turn" }, out, chips));
  const follow = () => { pane.scrollTop = pane.scrollHeight; };
  follow();
  const began = performance.now();
  let first = null;
  let answer = "";
  let id = null;
  const init = {
    method: "POST", signal,
    headers: { "content-type": "application/json", ...($("chat-nocache").checked ? { "cache-control": "no-cache" } : {}) },
    body: JSON.stringify({ model, messages: side.turns, stream: true, temperature: 0, stream_options: { include_usage: true } }),
  };
  try {
    const onOpen = (response) => {
      id = response.headers.get("x-request-id");
      for (const name of SHOWN) {
        const value = response.headers.get(`x-reprise-${name}`);
        if (value !== null) chips.append(h("span", { class: `tag ${value === "HIT" ? "c-hit" : ""}` }, `${name.replace("-ms", "")} ${name.endsWith("-ms") ? ms(Number(value)) : value}`));
      }
    };
    for await (const { data } of events("/v1/chat/completions", init, onOpen)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      const piece = chunk.choices?.[0]?.delta?.content;
      if (!piece) continue;
      first ??= performance.now() - began;
      answer += piece;
      out.textContent = answer;
      follow();
    }
    side.turns.push({ role: "assistant", content: answer });
  } catch (error) {
    side.turns.pop();
    const stopped = error.name === "AbortError";
    chips.append(h("span", { class: "tag c-bad" }, stopped ? "stopped" : "error"));
    if (!answer) out.textContent = stopped ? "Stopped." : error.message;
    else if (!stopped) say(error.message);
  }
  if (first !== null) chips.append(h("span", { class: "tag" }, `first token ${ms(first)}`), h("span", { class: "tag" }, `total ${ms(performance.now() - began)}`));
  if (id) chips.append(...acts(id));
  follow();
}

function acts(id) {
  const rate = (rating, button) => async () => {
    try {
      await call("POST", "/v1/feedback", { request_id: id, rating });
      for (const other of buttons.slice(1)) other.disabled = true;
      button().setAttribute("aria-pressed", "true");
    } catch (error) {
      say(`Not rated: ${error.message}`);
    }
  };
  const buttons = [
    h("button", { type: "button", onclick: (event) => explain(id, event.currentTarget) }, "Why"),
    h("button", { type: "button", onclick: rate(1, () => buttons[1]) }, "Good"),
    h("button", { type: "button", onclick: rate(0, () => buttons[2]) }, "Bad"),
  ];
  return buttons;
}

export function start() {
  const form = $("chat-form");
  const input = $("chat-input");
  form.onsubmit = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || running) return;
    input.value = "";
    send(text);
  };
  input.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  };
  $("chat-stop").onclick = () => running?.abort();
  $("chat-clear").onclick = () => {
    running?.abort();
    for (const side of Object.values(sides)) side.turns = [];
    draw();
  };
  $("chat-left").onchange = $("chat-right").onchange = draw;
  knowModels([]);
  draw();
}
