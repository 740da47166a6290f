// Two time plots in hand-written SVG: requests per interval, stacked by what answered them, and each request's time to answer.

import { s, h } from "./dom.js";
import { count, ms, plural, shortClock, clock } from "./format.js";
import { kind } from "./record.js";

const HEIGHT = 170;
const PAD = { left: 40, right: 6, top: 8, bottom: 20 };
const BINS = 60;

const width = (host) => Math.max(200, host.clientWidth);
const y0 = HEIGHT - PAD.bottom;

function frame(w, label) {
  return s("svg", { viewBox: `0 0 ${w} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" });
}

function timeAxis(svg, w, from, to) {
  const step = niceStep((to - from) / Math.max(2, Math.floor(w / 110)));
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const x = PAD.left + ((at - from) / (to - from)) * (w - PAD.left - PAD.right);
    if (x > w - 18) continue;
    svg.append(s("text", { class: "axis-text", x, y: HEIGHT - 4, "text-anchor": "middle" }, shortClock(at)));
  }
}

function niceStep(raw) {
  const steps = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600].map((seconds) => seconds * 1000);
  return steps.find((step) => step >= raw) ?? steps.at(-1);
}

function line(svg, w, y, label) {
  svg.append(
    s("line", { class: "axis", x1: PAD.left, x2: w - PAD.right, y1: y, y2: y }),
    s("text", { class: "axis-text", x: PAD.left - 6, y: y + 4, "text-anchor": "end" }, label),
  );
}

/** An even number that is round and no smaller than n: half of it is whole too. */
function niceTop(n) {
  const magnitude = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  const top = [1, 2, 4, 6, 8, 10].map((m) => m * magnitude).find((t) => t >= n);
  return Math.max(2, top);
}

export function ratePlot(host, legend, readout, rows, window, now) {
  const w = width(host);
  const bin = window / BINS;
  const to = Math.ceil(now / bin) * bin;
  const from = to - window;
  const kinds = new Map();
  const bins = Array.from({ length: BINS }, () => new Map());
  let shown = 0;
  for (const row of rows) {
    if (row.at < from || row.at > to) continue;
    const what = kind(row);
    kinds.set(what.key, { ...what, n: (kinds.get(what.key)?.n ?? 0) + 1 });
    const slot = bins[Math.min(BINS - 1, Math.floor((row.at - from) / bin))];
    slot.set(what.key, (slot.get(what.key) ?? 0) + 1);
    shown += 1;
  }
  const order = [...kinds.values()].sort((a, b) => a.key.localeCompare(b.key));
  const most = Math.max(0, ...bins.map((slot) => [...slot.values()].reduce((a, b) => a + b, 0)));
  const top = niceTop(most);
  const plotWidth = w - PAD.left - PAD.right;
  const svg = frame(w, `${plural(shown, "request")} in the window, at most ${most} in one interval`);
  for (const value of [0, top / 2, top]) line(svg, w, y0 - (value / top) * (y0 - PAD.top), count(value));
  timeAxis(svg, w, from, to);
  const step = plotWidth / BINS;
  bins.forEach((slot, index) => {
    let y = y0;
    for (const what of order) {
      const n = slot.get(what.key) ?? 0;
      if (!n) continue;
      const height = (n / top) * (y0 - PAD.top);
      y -= height;
      svg.append(s("rect", {
        class: `mark-fill ${what.colour}${what.plain ? " plain" : ""}`,
        x: PAD.left + index * step + 0.75, y: y + 0.5, width: Math.max(1, step - 1.5), height: Math.max(1, height - 1), rx: 1,
      }));
    }
  });
  const hover = s("rect", { class: "hover", y: PAD.top, width: step, height: y0 - PAD.top, visibility: "hidden" });
  svg.append(hover);
  svg.onpointermove = (event) => {
    const box = svg.getBoundingClientRect();
    const index = Math.floor((((event.clientX - box.left) / box.width) * w - PAD.left) / step);
    const slot = bins[index];
    hover.setAttribute("visibility", slot ? "visible" : "hidden");
    if (!slot) { readout.textContent = ""; return; }
    hover.setAttribute("x", PAD.left + index * step);
    const parts = order.filter((what) => slot.has(what.key)).map((what) => `${what.name} ${slot.get(what.key)}`);
    readout.textContent = `${clock(from + index * bin)}  ${parts.join(", ") || "none"}`;
  };
  svg.onpointerleave = () => { hover.setAttribute("visibility", "hidden"); readout.textContent = perInterval(bin); };
  readout.textContent = perInterval(bin);
  host.replaceChildren(svg);
  legend.replaceChildren(...order.map((what) => h("li", {},
    h("span", { class: `key ${what.colour}${what.plain ? " plain" : ""}` }), `${what.name} ${count(what.n)}`)));
  if (!order.length) legend.append(h("li", {}, "No request in this window."));
}

const perInterval = (bin) => (bin < 60_000 ? `per ${Math.round(bin / 1000)} s` : `per ${Math.round(bin / 60_000)} min`);

export function latencyPlot(host, readout, rows, window, now) {
  const w = width(host);
  const from = now - window;
  const points = rows.filter((row) => row.at >= from && row.at <= now + 1000 && row.total > 0);
  const low = Math.floor(Math.log10(Math.min(1, ...points.map((row) => row.total))));
  const high = Math.max(3, Math.ceil(Math.log10(Math.max(10, ...points.map((row) => row.total)))));
  const y = (value) => y0 - ((Math.log10(value) - low) / (high - low)) * (y0 - PAD.top);
  const x = (at) => PAD.left + ((at - from) / window) * (w - PAD.left - PAD.right);
  const svg = frame(w, `Time to answer of ${plural(points.length, "request")}, logarithmic`);
  const every = high - low > 5 ? 2 : 1;
  for (let power = low; power <= high; power += every) line(svg, w, y(10 ** power), tick(10 ** power));
  timeAxis(svg, w, from, now);
  // A path for each kind: thousands of circles would take the page longer to lay out than everything else on it.
  const dots = new Map();
  for (const row of points) {
    const what = kind(row);
    if (!dots.has(what.key)) dots.set(what.key, { ...what, path: [] });
    dots.get(what.key).path.push(`M${x(row.at).toFixed(1)} ${y(row.total).toFixed(1)}h0`);
  }
  for (const { colour, plain, path } of dots.values()) svg.append(s("path", { class: `mark-dots ${colour}${plain ? " plain" : ""}`, d: path.join("") }));
  const ring = s("circle", { class: "arm-sampled", r: 5, visibility: "hidden", "fill-opacity": 0 });
  svg.append(ring);
  svg.onpointermove = (event) => {
    const box = svg.getBoundingClientRect();
    const px = ((event.clientX - box.left) / box.width) * w;
    const py = ((event.clientY - box.top) / box.height) * HEIGHT;
    const near = points.map((row) => ({ row, d: Math.hypot(x(row.at) - px, y(row.total) - py) })).sort((a, b) => a.d - b.d)[0];
    if (!near || near.d > 24) { ring.setAttribute("visibility", "hidden"); readout.textContent = "log scale"; return; }
    ring.setAttribute("visibility", "visible");
    ring.setAttribute("cx", x(near.row.at));
    ring.setAttribute("cy", y(near.row.total));
    readout.textContent = `${clock(near.row.at)}  ${kind(near.row).name}  ${ms(near.row.total)}`;
  };
  svg.onpointerleave = () => { ring.setAttribute("visibility", "hidden"); readout.textContent = "log scale"; };
  readout.textContent = "log scale";
  host.replaceChildren(svg);
}

const tick = (value) => (value < 1000 ? `${value < 1 ? value.toFixed(String(value).length - 2) : value} ms` : `${value / 1000} s`);
