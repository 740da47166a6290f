// Numbers and times as people read them. A missing value is a dash, never 0.

export const DASH = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

// Made once: to make one costs more than all that a burst of requests draws.
const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function count(value) {
  if (!known(value)) return DASH;
  return (value < 10_000 ? whole : compact).format(value);
}

export function ms(value) {
  if (!known(value)) return DASH;
  if (value < 0.1) return `${Math.round(value * 1000)} µs`;
  if (value < 1) return `${value.toFixed(2)} ms`;
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(value / 60_000)} min ${Math.round((value % 60_000) / 1000)} s`;
}

export function rate(perSecond) {
  if (!known(perSecond)) return DASH;
  return perSecond < 10 ? perSecond.toFixed(perSecond < 0.1 && perSecond > 0 ? 2 : 1) : count(Math.round(perSecond));
}

/** In whatever currency the prices are. */
export function money(value) {
  if (!known(value)) return DASH;
  if (value > 0 && value < 0.01) return value.toPrecision(2);
  return value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

export const percent = (value, digits = 0) => (known(value) ? `${(100 * value).toFixed(digits)}%` : DASH);
export const fixed = (value, digits = 2) => (known(value) ? value.toFixed(digits) : DASH);

export function bytes(value) {
  if (!known(value)) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export const clock = (at) => new Date(at).toLocaleTimeString("en-GB");
export const shortClock = (at) => new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

export function ago(at, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function span(seconds) {
  if (!known(seconds)) return DASH;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
