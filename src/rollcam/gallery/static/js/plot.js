// The scatter with its axes' menus, linked to the list both ways.

import { h, toast } from "./dom.js";
import { asNumber, label } from "./format.js";
import { outliers, Scatter } from "./scatter.js";

const AXES = ["step_index", "iteration", "episode_index", "started_at"];
const HEIGHTS = ["episode_return", "episode_length", "duration_s"];
const MANY = 20000;

export class Plot {
  #stop = new AbortController();
  #points = null;
  #askedAt = 0;
  #timer = 0;

  constructor({ source, state }) {
    Object.assign(this, { source, state });
    const { x, numeric = [], more = [] } = source.gallery;
    const counters = numeric.filter((column) => !HEIGHTS.includes(column) && !AXES.includes(column)).slice(0, 60);
    const own = more.filter((column) => numeric.includes(column));
    this.usual = x ?? "started_at";
    this.known = { x: [...new Set([this.usual, ...AXES, ...counters])], y: [...new Set([...HEIGHTS, ...own])] };
    this.menus = { x: this.#menu("x", "Across"), y: this.#menu("y", "Up") };
    this.scatter = new Scatter({ onPick: (k) => this.#pick(k), onBrush: (brush) => this.#brush(brush) });
    this.element = h("section", { class: "plot", "aria-label": "Return over training" },
      h("div", { class: "plot-menus" }, this.menus.y, h("span", { class: "quiet" }, "over"), this.menus.x,
        h("span", { class: "quiet hint" }, "drag to filter, click a point to watch it")),
      this.scatter.element);
  }

  get x() {
    return this.state.asked.params.get("x") || this.usual;
  }

  get y() {
    return this.state.asked.params.get("y") || "episode_return";
  }

  /** Columns that the list needs besides its own, so that the selected row can be marked. */
  get extraColumns() {
    const own = new Set(this.source.gallery.columns);
    return [this.x, this.y].filter((column) => !own.has(column));
  }

  /** Ask for the points of the question, and show what is kept of them. */
  async show() {
    this.menus.x.value = this.x;
    this.menus.y.value = this.y;
    const question = this.state.asked.withoutRanges(this.x, this.y);
    const key = `${question}&${this.x}&${this.y}`;
    if (key !== this.key) await this.#ask(question, key);
    this.scatter.setBrush(this.#brushed());
  }

  /** There are new episodes; many points are asked for less often. */
  refresh() {
    clearTimeout(this.#timer);
    const pause = (this.#points?.n ?? 0) > MANY ? 10000 : 1500;
    const wait = Math.max(0, this.#askedAt + pause - performance.now());
    this.#timer = setTimeout(() => {
      this.key = null;
      this.show();
    }, wait);
  }

  /** Put a ring around a row of the list. */
  mark(row) {
    if (!row) {
      this.scatter.mark(null);
      return;
    }
    const at = (column) => (/_at$/.test(column) ? Date.parse(row[column]) / 1000 : asNumber(row[column]));
    this.scatter.mark({ x: at(this.x), y: at(this.y) });
  }

  /** The ULIDs of the episodes that lie far from their neighbours. */
  async outlierIds() {
    if (!this.#points) return [];
    const { xs, ys } = this.#points;
    const rows = await Promise.all(outliers(xs, ys).map((k) => this.#rowOf(k)));
    return rows.filter(Boolean).map((row) => row.episode_id);
  }

  #menu(which, text) {
    return h("select", {
      class: "axis", "aria-label": text, title: text,
      onchange: () => this.state.change(this.state.asked.with(which, this.menus[which].value)),
    }, this.known[which].map((column) => h("option", { value: column }, label(column))));
  }

  async #ask(question, key) {
    this.#stop.abort();
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    try {
      const points = await this.source.points(question, this.x, this.y, { signal });
      if (signal.aborted) return;
      this.key = key;
      this.question = question;
      this.#points = points;
      this.#askedAt = performance.now();
      this.scatter.set(points);
    } catch {
      // The list says what is wrong.
    }
  }

  #brushed() {
    const bounds = (column) => {
      const found = this.state.range(column);
      if (!found || !found[0] || !found[1]) return null;
      return found.map((text) => (/_at$/.test(column) ? Date.parse(text) / 1000 : Number(text)));
    };
    const x = bounds(this.x), y = bounds(this.y);
    return x || y ? { x, y } : null;
  }

  async #pick(k) {
    const row = await this.#rowOf(k);
    if (row) this.state.openId(row.id);
    else toast("This episode is gone");
  }

  async #rowOf(k) {
    try {
      const { rows } = await this.source.list(this.question, k, 1);
      return rows[0] ?? null;
    } catch {
      return null;
    }
  }

  #brush(brush) {
    let { asked } = this.state;
    for (const [column, bounds] of [[this.x, brush?.x], [this.y, brush?.y]]) {
      const said = bounds?.map((n) => (/_at$/.test(column) ? new Date(n * 1000).toISOString() : String(Number(n.toPrecision(9)))));
      asked = asked.withRange(column, ...(said ?? ["", ""]));
    }
    if (String(asked.params) !== String(this.state.asked.params)) this.state.change(asked);
  }
}
