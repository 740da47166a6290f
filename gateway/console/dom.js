// Elements are built, never parsed: whatever text comes from a request, an example or a model ends up in a text node.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

let hush;

/** Tells what happened, to eyes and to screen readers. */
export function say(text) {
  $("say").textContent = text;
  clearTimeout(hush);
  hush = setTimeout(() => { $("say").textContent = ""; }, 5000);
}

/** What to do when there is nothing to show: a sentence and a command to copy. */
export function empty(text, command) {
  return h("div", { class: "empty" }, h("p", {}, sentence(text)), command && copyable(command));
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.:!?]$/.test(text) ? "" : ".");

function copyable(command) {
  const button = h("button", { type: "button", onclick: () => copy(command) }, "Copy");
  return h("div", { class: "copy" }, h("pre", { tabindex: "0" }, h("code", {}, command)), button);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser does not let this page copy; select the text instead.");
  }
}

/** A labelled bar: share in [0, 1]. */
export function meter(label, share, value, colour = "c-tier-0") {
  const width = `${(100 * Math.min(1, Math.max(0, share || 0))).toFixed(1)}%`;
  return h("div", { class: "meter" }, h("span", {}, label),
    h("div", { class: `track ${colour}`, "aria-hidden": "true" }, h("i", { css: { "--share": width } })), h("output", {}, value));
}

/** A question asked in the page's dialog; resolves to null if declined, else to what was typed ("" without a field). */
export function ask({ title, text, yes, field = false }) {
  const dialog = $("ask");
  $("ask-h").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  $("ask-field").hidden = !field;
  $("ask-input").value = "";
  return new Promise((resolve) => {
    const end = (value) => {
      $("ask-form").onsubmit = $("ask-no").onclick = dialog.oncancel = null;
      dialog.close();
      resolve(value);
    };
    $("ask-form").onsubmit = (event) => { event.preventDefault(); end($("ask-input").value.trim()); };
    $("ask-no").onclick = () => end(null);
    dialog.oncancel = (event) => { event.preventDefault(); end(null); };
    dialog.showModal();
  });
}
