// Heat maps over gated sub-layers and experts: what waits for them, and what was computed.

import { h, s } from "./dom.js";
import { count } from "./format.js";

const CELL = { width: 36, height: 20, gap: 2 };
const PAD = { left: 46, top: 18 };

export function heatMaps(devices, colour) {
  const cells = new Map();
  for (const [device, load] of devices.entries()) {
    for (const one of load.experts ?? []) {
      const key = `${one.sub_layer}/${one.expert}`;
      const cell = cells.get(key) ?? { ...one, waiting: 0, parts: 0, on: [] };
      cell.waiting += one.waiting;
      cell.parts += one.parts;
      cell.on.push(device);
      cells.set(key, cell);
    }
  }
  const list = [...cells.values()];
  if (!list.length) return [];
  return [
    map("Waiting in micro-queues", "parts of rows, now", list, (cell) => cell.waiting, colour),
    map("Computed by experts", "parts of rows, since the start", list, (cell) => cell.parts, colour),
  ];
}

function map(title, unit, cells, value, colour) {
  const layers = [...new Set(cells.map((cell) => cell.sub_layer))].sort((a, b) => a - b);
  const experts = [...new Set(cells.map((cell) => cell.expert))].sort((a, b) => a - b);
  const most = Math.max(...cells.map(value));
  const hottest = cells.reduce((best, cell) => (value(cell) > value(best) ? cell : best));
  const told = most > 0 ? `most at sub-layer ${hottest.sub_layer}, expert ${hottest.expert}: ${count(most)}` : "none";
  const width = PAD.left + layers.length * (CELL.width + CELL.gap);
  const height = PAD.top + experts.length * (CELL.height + CELL.gap);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", class: colour, "aria-label": `${title}, ${unit}: ${told}` });
  const x = (layer) => PAD.left + layers.indexOf(layer) * (CELL.width + CELL.gap);
  const y = (expert) => PAD.top + experts.indexOf(expert) * (CELL.height + CELL.gap);
  for (const layer of layers) svg.append(s("text", { class: "axis-text", x: x(layer) + CELL.width / 2, y: PAD.top - 6, "text-anchor": "middle" }, `${layer}`));
  for (const expert of experts) svg.append(s("text", { class: "axis-text", x: PAD.left - 6, y: y(expert) + CELL.height - 6, "text-anchor": "end" }, `exp. ${expert}`));
  for (const cell of cells) {
    const share = most > 0 ? value(cell) / most : 0;
    svg.append(s("rect", { class: share > 0 ? "heat" : "heat none", x: x(cell.sub_layer), y: y(cell.expert), width: CELL.width, height: CELL.height, rx: 2, "fill-opacity": share > 0 ? (0.15 + 0.85 * share).toFixed(3) : 1 },
      s("title", {}, `sub-layer ${cell.sub_layer}, expert ${cell.expert} on device ${cell.on.join(", ")}: ${count(value(cell))}`)));
  }
  return h("figure", { class: "heat-map" }, h("figcaption", {}, h("span", {}, title), h("span", { class: "muted" }, told)),
    h("div", { class: "scroll-x", tabindex: "0", role: "group", "aria-label": title }, svg));
}
