// The source of an exported gallery: one list of everything, and the questions answered in the page
// as the server would.

import { asNumber } from "./format.js";

const FACETS = ["env_id", "run_id", "mode", "status", "kind", "codec", "worker", "folder", "terminated", "truncated"];
const RANGES = ["episode_return", "episode_length", "n_frames", "duration_s", "step_index", "iteration", "seed", "size_bytes", "started_at"];
const MAX_VALUES = 100;

export class StaticSource {
  #columns = null;
  #rows = [];
  #getJson;

  constructor(gallery, getJson) {
    this.gallery = gallery;
    this.isLive = false;
    this.#getJson = getJson;
  }

  async #load() {
    if (this.#columns) return;
    const all = await this.#getJson("api/list.json");
    this.#columns = new Map(all.columns.map((name, k) => [name, k]));
    this.#rows = all.rows;
  }

  #value(row, column) {
    const k = this.#columns.get(column);
    return k === undefined ? null : row[k] ?? null;
  }

  #object(row) {
    return Object.fromEntries([...this.#columns].map(([name, k]) => [name, row[k]]));
  }

  /** The rows that answer to a question; `without` names columns whose conditions do not count. */
  #matching(question, without = null) {
    const words = (question.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const choices = new Map();
    for (const [column, value] of question.getAll("is").map(parted)) {
      if (column !== without) choices.set(column, [...(choices.get(column) ?? []), value]);
    }
    const ranges = question.getAll("in").map(parted).filter(([column]) => column !== without);
    return this.#rows.filter((row) =>
      words.every((word) => String(this.#value(row, "search") ?? "").includes(word)) &&
      [...choices].every(([column, wanted]) => wanted.includes(asText(this.#value(row, column)))) &&
      ranges.every(([column, text]) => isWithin(this.#value(row, column), text)));
  }

  #sorted(rows, question) {
    const keys = question.getAll("sort").filter(Boolean);
    const first = keys[0] ?? "-started_at";
    const newest = first.startsWith("-") ? "-" : "";
    const order = [...(keys.length ? keys : [first]), `${newest}started_at`, `${newest}id`];
    const columns = order.map((key) => [key.replace(/^-/, ""), key.startsWith("-") ? -1 : 1]);
    return [...rows].sort((a, b) => {
      for (const [column, way] of columns) {
        const found = compared(this.#value(a, column), this.#value(b, column), way);
        if (found) return found;
      }
      return 0;
    });
  }

  async #answer(question) {
    await this.#load();
    return this.#sorted(this.#matching(question), question);
  }

  async list(question, offset, limit) {
    const rows = await this.#answer(question);
    const some = rows.slice(offset, offset + limit).map((row) => this.#object(row));
    return { generation: this.gallery.generation, total: rows.length, offset, rows: some };
  }

  async points(question, x, y) {
    const rows = await this.#answer(question);
    const statuses = [...new Set(rows.map((row) => this.#value(row, "status")))];
    const plotted = (column) => rows.map((row) => plottable(column, this.#value(row, column)));
    return {
      generation: this.gallery.generation, x, y, n: rows.length, xs: plotted(x), ys: plotted(y),
      status: rows.map((row) => statuses.indexOf(this.#value(row, "status"))), statuses,
    };
  }

  async facets(question) {
    await this.#load();
    const values = {}, ranges = {};
    for (const column of FACETS) values[column] = this.#counted(question, column);
    for (const column of RANGES) ranges[column] = this.#extent(question, column);
    const total = this.#matching(question).length;
    return { generation: this.gallery.generation, total, values, ranges };
  }

  #counted(question, column) {
    const counts = new Map();
    for (const row of this.#matching(question, column)) {
      const value = this.#value(row, column);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]).slice(0, MAX_VALUES);
  }

  #extent(question, column) {
    let low = null, high = null;
    for (const row of this.#matching(question, column)) {
      const value = this.#value(row, column);
      if (value === null) continue;
      if (low === null || value < low) low = value;
      if (high === null || value > high) high = value;
    }
    return low === null ? null : [low, high];
  }

  facts(id, { signal } = {}) {
    return this.#getJson(`api/e/${encodeURIComponent(id)}/facts.json`, { signal });
  }

  async neighbours(id, question) {
    const asked = new URLSearchParams(question);
    asked.delete("sort");
    const beside = async (column) => {
      asked.set("sort", column);
      const rows = (await this.#answer(asked)).filter((row) => this.#value(row, column) !== null);
      const k = rows.findIndex((row) => this.#value(row, "id") === id);
      const at = (n) => (k >= 0 && rows[n] ? this.#object(rows[n]) : null);
      return [at(k - 1), at(k + 1)];
    };
    const [worse, better] = await beside("episode_return");
    const [earlier, later] = await beside("started_at");
    return { worse, better, earlier, later };
  }

  async growing() {
    return [];
  }

  listen() {
    return () => {};
  }
}

const parted = (text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)];

const asText = (value) => (value === null ? "" : String(value));

function isWithin(value, text) {
  if (value === null) return false;
  const [low, high] = text.split("..");
  const isText = typeof value === "string" && Number.isNaN(asNumber(value));
  const as = (bound) => (isText ? bound : Number(bound));
  const found = isText ? value : asNumber(value);
  return (low === "" || found >= as(low)) && (!high || found <= as(high));
}

/** Nothing comes last whichever way, and text behind numbers (before them, largest first). */
function compared(a, b, way) {
  if (a === null || b === null) return (a === null) - (b === null);
  const m = asNumber(a), n = asNumber(b);
  const isText = [Number.isNaN(m), Number.isNaN(n)];
  if (isText[0] !== isText[1]) return way * (isText[0] - isText[1]);
  if (isText[0]) return way * (a < b ? -1 : a > b ? 1 : 0);
  return way * (m < n ? -1 : m > n ? 1 : 0);
}

function plottable(column, value) {
  if (value === null) return null;
  if (column === "started_at" || column === "ended_at") return Date.parse(value) / 1000;
  const n = asNumber(value);
  return Number.isFinite(n) ? n : null;
}
