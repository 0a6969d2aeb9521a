// The return over the training steps, one point an episode. Click a point to go to it, drag to
// keep what lies in the box.

import { h, onTheme, sharp, themed } from "./dom.js";
import { label, moment, number } from "./format.js";

const PAD = { left: 58, right: 12, top: 10, bottom: 22 };
const REACH = 12; // pixels within which a point is meant
const CELL = 16; // pixels of the net in which points are looked up
const COLOURS = { __proto__: null, complete: "--point", truncated_by_crash: "--warn", failed: "--bad", empty: "--quiet" };

/** Round numbers between two bounds, about `n` of them. */
export function ticks(low, high, n) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / n, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((k) => k * size >= rough) * size;
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

/**
 * The points that lie farthest from their neighbours along the axis, farthest first.
 * Far is more than `limit` robust deviations from the median of the `reach` points on either side.
 */
export function outliers(xs, ys, { limit = 5, most = 20, reach = 40 } = {}) {
  const order = [];
  for (let k = 0; k < ys.length; k++) if (Number.isFinite(xs[k]) && Number.isFinite(ys[k]) && ys[k] !== null && xs[k] !== null) order.push(k);
  order.sort((a, b) => xs[a] - xs[b]);
  const stride = Math.max(1, Math.floor(order.length / 2000));
  const found = [];
  for (let start = 0; start < order.length; start += stride) {
    const some = order.slice(Math.max(0, start - reach), start + stride + reach).map((k) => ys[k]).sort((a, b) => a - b);
    const middle = some[some.length >> 1];
    const gaps = some.map((y) => Math.abs(y - middle)).sort((a, b) => a - b);
    const scale = (gaps[gaps.length >> 1] * 1.4826) || (gaps.at(-1) / 10) || 1;
    for (const k of order.slice(start, start + stride)) {
      const far = Math.abs(ys[k] - middle) / scale;
      if (far > limit) found.push([far, k]);
    }
  }
  return found.sort((a, b) => b[0] - a[0]).slice(0, most).map(([, k]) => k);
}

export class Scatter {
  #points = null;
  #bounds = null;
  #net = new Map();
  #from = null;
  #marked = null;
  #brush = null;

  /** @param onPick Called with a point's number; `onBrush` with `{x: [low, high], y}` or null. */
  constructor({ onPick, onBrush }) {
    Object.assign(this, { onPick, onBrush });
    this.canvas = h("canvas", { class: "scatter-canvas", role: "img", "aria-label": "Return over training steps" });
    this.over = h("canvas", { class: "scatter-canvas over", "aria-hidden": "true" });
    this.tip = h("div", { class: "tip num", hidden: true });
    this.element = h("div", { class: "scatter" }, this.canvas, this.over, this.tip);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.unsubscribe = onTheme(() => this.draw());
    this.#listen();
  }

  close() {
    this.observer.disconnect();
    this.unsubscribe();
  }

  /** Show the answer of `points.json`. */
  set(points) {
    this.#points = points;
    this.#bounds = boundsOf(points);
    const range = this.#bounds ? `, from ${number(this.#bounds.y[0])} to ${number(this.#bounds.y[1])}` : "";
    this.canvas.setAttribute("aria-label", `${label(points.y)} over ${label(points.x)}: ${points.n} episodes${range}`);
    this.draw();
  }

  /** Show what the box keeps: `{x, y}` or null. */
  setBrush(brush) {
    this.#brush = brush;
    this.#drawOver();
  }

  /** Put a ring around the episode that is selected: its values, or null. */
  mark(point) {
    this.#marked = point;
    this.#drawOver();
  }

  draw() {
    const { pen, width, height } = sharp(this.canvas);
    this.width = width;
    this.height = height;
    pen.clearRect(0, 0, width, height);
    this.#net.clear();
    if (this.#bounds) {
      this.#drawAxes(pen);
      this.#drawPoints(pen);
    } else if (this.#points) {
      pen.fillStyle = themed("--quiet");
      pen.font = "12px system-ui, sans-serif";
      pen.fillText("No episode here has both values.", PAD.left, height / 2);
    }
    this.#drawOver();
  }

  #x(x) {
    const [low, high] = this.#bounds.x;
    return PAD.left + ((x - low) / (high - low)) * (this.width - PAD.left - PAD.right);
  }

  #y(y) {
    const [low, high] = this.#bounds.y;
    return this.height - PAD.bottom - ((y - low) / (high - low)) * (this.height - PAD.top - PAD.bottom);
  }

  #valueAt(px, py) {
    const [x0, x1] = this.#bounds.x, [y0, y1] = this.#bounds.y;
    return {
      x: x0 + ((px - PAD.left) / (this.width - PAD.left - PAD.right)) * (x1 - x0),
      y: y0 + ((this.height - PAD.bottom - py) / (this.height - PAD.top - PAD.bottom)) * (y1 - y0),
    };
  }

  #drawAxes(pen) {
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = themed("--quiet");
    pen.strokeStyle = themed("--rule");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const y of ticks(...this.#bounds.y, Math.max(2, this.height / 40))) {
      const at = Math.round(this.#y(y)) + 0.5;
      line(pen, PAD.left, at, this.width - PAD.right, at);
      pen.fillText(number(y, 3), PAD.left - 6, at);
    }
    pen.textBaseline = "alphabetic";
    const isTime = /_at$/.test(this.#points.x);
    const shown = ticks(...this.#bounds.x, Math.max(2, this.width / (isTime ? 170 : 110)));
    for (const x of shown) {
      const at = this.#x(x);
      pen.textAlign = at > this.width - 60 ? "right" : "center";
      pen.fillText(isTime ? moment(new Date(x * 1000).toISOString()).slice(0, 16) : number(x, 3), at, this.height - 7);
    }
  }

  #drawPoints(pen) {
    const { xs, ys, status, statuses } = this.#points;
    const n = xs.length;
    const size = n > 20000 ? 2 : n > 3000 ? 3 : 5;
    pen.globalAlpha = n > 20000 ? 0.45 : n > 3000 ? 0.6 : 0.8;
    statuses.forEach((name, s) => {
      pen.fillStyle = themed(COLOURS[name] ?? "--point");
      for (let k = 0; k < n; k++) {
        if (status[k] !== s || xs[k] === null || ys[k] === null) continue;
        const x = this.#x(xs[k]), y = this.#y(ys[k]);
        pen.fillRect(x - size / 2, y - size / 2, size, size);
        const cell = Math.floor(x / CELL) * 4096 + Math.floor(y / CELL);
        const some = this.#net.get(cell);
        if (!some) this.#net.set(cell, [k]);
        else if (some.length < 64) some.push(k);
      }
    });
    pen.globalAlpha = 1;
  }

  #drawOver() {
    const { pen, width, height } = sharp(this.over);
    pen.clearRect(0, 0, width, height);
    if (!this.#bounds) return;
    if (this.#brush) {
      const { x, y } = this.#brush;
      const left = x ? this.#x(x[0]) : PAD.left, right = x ? this.#x(x[1]) : width - PAD.right;
      const top = y ? this.#y(y[1]) : PAD.top, bottom = y ? this.#y(y[0]) : height - PAD.bottom;
      pen.fillStyle = themed("--brush");
      pen.strokeStyle = themed("--accent");
      pen.fillRect(left, top, right - left, bottom - top);
      pen.strokeRect(left + 0.5, top + 0.5, right - left, bottom - top);
    }
    const { x, y } = this.#marked ?? {};
    if (Number.isFinite(x) && Number.isFinite(y)) {
      pen.strokeStyle = themed("--accent");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(this.#x(x), this.#y(y), 6, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  #nearest(px, py) {
    let best = null, least = REACH ** 2;
    for (let i = -1; i <= 1; i++) {
      for (let j = -1; j <= 1; j++) {
        const cell = (Math.floor(px / CELL) + i) * 4096 + Math.floor(py / CELL) + j;
        for (const k of this.#net.get(cell) ?? []) {
          const gap = (this.#x(this.#points.xs[k]) - px) ** 2 + (this.#y(this.#points.ys[k]) - py) ** 2;
          if (gap < least) [best, least] = [k, gap];
        }
      }
    }
    return best;
  }

  #listen() {
    const { over } = this;
    const at = (event) => {
      const box = over.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    over.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.#bounds) return;
      over.setPointerCapture(event.pointerId);
      this.#from = at(event);
    });
    over.addEventListener("pointermove", (event) => {
      if (!this.#bounds) return;
      const [x, y] = at(event);
      if (this.#from) this.setBrush(this.#box(this.#from, [x, y]));
      this.#point(this.#from ? null : this.#nearest(x, y), x, y);
    });
    over.addEventListener("pointerup", (event) => this.#release(at(event)));
    over.addEventListener("pointercancel", () => (this.#from = null));
    over.addEventListener("pointerleave", () => this.#point(null));
  }

  #release(to) {
    const from = this.#from;
    this.#from = null;
    if (!from) return;
    if (Math.hypot(to[0] - from[0], to[1] - from[1]) > 6) {
      this.onBrush(this.#box(from, to));
      return;
    }
    const k = this.#nearest(...to);
    if (k !== null) this.onPick(k);
    else this.onBrush(null);
  }

  #box(a, b) {
    const from = this.#valueAt(Math.min(a[0], b[0]), Math.max(a[1], b[1]));
    const to = this.#valueAt(Math.max(a[0], b[0]), Math.min(a[1], b[1]));
    return { x: [from.x, to.x], y: [from.y, to.y] };
  }

  #point(k, px = 0, py = 0) {
    this.tip.hidden = k === null;
    this.over.style.cursor = k === null ? "crosshair" : "pointer";
    if (k === null) return;
    const { x, y, xs, ys, status, statuses } = this.#points;
    const where = /_at$/.test(x) ? moment(new Date(xs[k] * 1000).toISOString()) : number(xs[k]);
    const state = statuses[status[k]];
    this.tip.textContent = `${label(y)} ${number(ys[k])} · ${label(x)} ${where}${state === "complete" ? "" : ` · ${state}`}`;
    const isRight = px > this.width / 2;
    this.tip.style.left = isRight ? "" : `${px + 12}px`;
    this.tip.style.right = isRight ? `${this.width - px + 12}px` : "";
    this.tip.style.top = `${Math.max(0, Math.min(py - 12, this.height - 30))}px`;
  }
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function boundsOf({ xs, ys }) {
  let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
  for (let k = 0; k < xs.length; k++) {
    const x = xs[k], y = ys[k];
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      xs[k] = null;
      continue;
    }
    if (x < x0) x0 = x;
    if (x > x1) x1 = x;
    if (y < y0) y0 = y;
    if (y > y1) y1 = y;
  }
  if (x1 < x0) return null;
  const room = (y1 - y0) * 0.04 || Math.abs(y0) * 0.1 || 1;
  const side = (x1 - x0) * 0.01 || Math.abs(x0) * 0.1 || 1;
  return { x: [x0 - side, x1 + side], y: [y0 - room, y1 + room] };
}
