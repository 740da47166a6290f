// The console: loads the state, then follows the gateway's events.

import { call, events, forgetKey, get, key, onUnauthorized } from "./console/api.js";
import { $, ask, h, say } from "./console/dom.js";
import * as chat from "./console/chat.js";
import * as examples from "./console/examples.js";
import { latencyPlot, ratePlot } from "./console/plot.js";
import { knowTiers } from "./console/record.js";
import * as replay from "./console/replay.js";
import * as requests from "./console/requests.js";
import * as tiers from "./console/tiers.js";
import * as tiles from "./console/tiles.js";
import * as why from "./console/why.js";

const REFRESH_MS = 4000;
const RETRY_MS = 5000;

/** As of the last overview: a cache that comes up late has something to list. */
let cacheWas;

/** The shortest window that shows all there is. */
function fitWindow() {
  const oldest = requests.rows.at(-1)?.at ?? Date.now();
  const fitting = [...$("window").options].find((option) => Number(option.value) >= Date.now() - oldest);
  $("window").value = (fitting ?? [...$("window").options].at(-1)).value;
}

function plots() {
  const window = Number($("window").value);
  const now = Date.now();
  ratePlot($("rate-plot"), $("rate-legend"), $("rate-readout"), requests.rows, window, now);
  latencyPlot($("latency-plot"), $("latency-readout"), requests.rows, window, now);
}

async function overview() {
  const state = await get("/admin/v1/state");
  const names = (state.pool?.tiers ?? []).map((tier) => tier.name);
  knowTiers(names);
  $("version").textContent = state.version ?? "";
  showKey(state.admin_key);
  tiles.draw(state);
  tiers.draw(state.pool, state.router);
  policies(state.router);
  chat.knowModels(names);
  examples.knowTenants(state.tenants ?? []);
  examples.knowSize(state.cache);
  if (state.cache && cacheWas === null) examples.load();
  cacheWas = state.cache;
  return state;
}

function policies(router) {
  const select = $("policy");
  const names = router?.policies ?? [];
  if (select === document.activeElement || !names.length) return;
  if (select.options.length !== names.length) select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
  select.value = router.policy;
  select.disabled = false;
}

async function setPolicy() {
  try {
    const { policy, previous } = await call("PUT", "/admin/v1/router/policy", { policy: $("policy").value });
    say(`Policy is now ${policy}; it was ${previous}.`);
  } catch (error) {
    say(`Policy not changed: ${error.message}`);
  }
  $("policy").blur();
  refresh();
}

function showKey(needed) {
  $("key").hidden = !needed;
  $("key").textContent = key() ? "Forget key" : "Enter key";
}

function live(state, text) {
  if ($("live").textContent === text) return;
  $("live").dataset.state = state;
  $("live").textContent = text;
}

function lost(error) {
  if (error.status === 401) showKey(true);
  live("lost", error.status === 401 ? "needs a key" : error.status ? `refused: ${error.status}` : "gateway not reached");
}

async function refresh() {
  if (document.hidden) return;
  try {
    await overview();
    plots();
  } catch (error) {
    lost(error);
  }
}

const pause = (time) => new Promise((resolve) => { setTimeout(resolve, time); });

/** Follows the events for as long as the page is open; what was missed is fetched at each new start. */
async function follow() {
  for (let first = true; ; first = false) {
    try {
      const page = await get("/admin/v1/router/decisions?limit=1000");
      requests.load(page.data);
      if (first) fitWindow();
      plots();
      for await (const { name, data } of events("/admin/v1/events", {}, () => live("live", "live"))) {
        requests.happened(name, JSON.parse(data));
        if (name === "remembered") examples.remembered();
      }
      live("wait", "reconnecting");
    } catch (error) {
      lost(error);
    }
    await pause(RETRY_MS);
  }
}

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  $("theme-name").textContent = name[0].toUpperCase() + name.slice(1);
  localStorage.setItem("reprise-theme", name);
}

function begin() {
  const stored = localStorage.getItem("reprise-theme");
  theme(THEMES.includes(stored) ? stored : "auto");
  $("theme").onclick = () => {
    theme(THEMES[(THEMES.indexOf(localStorage.getItem("reprise-theme")) + 1) % THEMES.length]);
  };
  onUnauthorized((message) => ask({ title: "Admin key", text: message, yes: "Use it", field: true }));
  $("key").onclick = () => {
    forgetKey();
    location.reload();
  };
  $("policy").onchange = setPolicy;
  $("window").onchange = plots;
  new ResizeObserver(plots).observe($("rate-plot"));
  // A section that is gone to stands under the header, however many lines that has.
  const bar = document.querySelector(".bar");
  new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);
  document.addEventListener("visibilitychange", refresh);
  requests.begin();
  for (const part of [why, examples, chat]) part.start();
  refresh().then(() => {
    // The second look makes the rates.
    setTimeout(refresh, 1000);
    examples.load();
    replay.load();
    follow();
  });
  setInterval(refresh, REFRESH_MS);
  setInterval(() => { if (!document.hidden) replay.load(); }, 10 * REFRESH_MS);
}

begin();
