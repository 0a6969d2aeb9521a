// The per-step columns of an episode, as lanes that can be drawn: one line, or one for each part of
// a vector. Value `i` belongs to frame `i`.

import { asNumber, number } from "./format.js";

const MAX_PARTS = 12;

/** Lanes from the columns of `steps.json`, the reward and the return first. */
export function lanesOf(columns) {
  const names = Object.keys(columns ?? {}).filter((name) => Array.isArray(columns[name]));
  const first = ["reward", "return", "action"].filter((name) => names.includes(name));
  const rest = names.filter((name) => !first.includes(name)).sort();
  return [...first, ...rest].map((name) => laneOf(name, columns[name]));
}

/** Columns that a live episode's rows are collected in. */
export class GrowingColumns {
  constructor() {
    this.columns = Object.create(null);
    this.n = 0;
  }

  add(frame, row) {
    if (!Number.isInteger(frame) || frame < 0 || frame > 1e7 || row === null || typeof row !== "object") return;
    for (const [name, value] of Object.entries(row)) {
      this.columns[name] ??= [];
      while (this.columns[name].length < frame) this.columns[name].push(null);
      this.columns[name][frame] = value;
    }
    this.n = Math.max(this.n, frame + 1);
  }
}

function laneOf(name, values) {
  const width = Math.min(MAX_PARTS, values.reduce(
    (most, value) => (Array.isArray(value) ? Math.max(most, value.length) : most), 0));
  const parts = width
    ? Array.from({ length: width }, (_, k) => values.map((value) => toNumber(value?.[k])))
    : [values.map(toNumber)];
  const numbers = parts.map((part) => Float64Array.from(part));
  const [low, high] = extent(numbers);
  const isWhole = numbers.every((part) => part.every((n) => Number.isNaN(n) || Number.isInteger(n)));
  return {
    name,
    values,
    parts: numbers,
    low,
    high,
    isDrawn: Number.isFinite(low),
    isSteps: name === "action" || (isWhole && high - low <= 20),
  };
}

const toNumber = (value) => (value === null || value === undefined ? NaN : asNumber(value));

function extent(parts) {
  let low = Infinity, high = -Infinity;
  for (const part of parts) {
    for (const n of part) {
      if (!Number.isFinite(n)) continue;
      if (n < low) low = n;
      if (n > high) high = n;
    }
  }
  return [low, high];
}

/** The value of a lane at a frame, as text. */
export function valueAt(lane, frame) {
  const value = lane.values[frame];
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map((part) => number(part, 3)).join("  ");
  if (typeof value === "number") return number(value);
  return String(value);
}
