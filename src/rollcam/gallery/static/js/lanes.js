// Columns drawn under a film, one lane each, in step with it. Click or drag to go to a step.

import { valueAt } from "./columns.js";
import { h, onTheme, sharp, themed } from "./dom.js";
import { number } from "./format.js";

const PAD = 6;
const COLOURS = 12;

/** Draw one line; where there are more points than pixels, what lies between is kept. */
export function drawLine(pen, part, { xOf, yOf, width, isSteps }) {
  const perPixel = part.length / Math.max(1, width);
  pen.beginPath();
  let isDown = false, before = NaN;
  const stride = Math.max(1, Math.floor(perPixel / 2));
  for (let k = 0; k < part.length; k += stride) {
    let low = Infinity, high = -Infinity;
    for (let n = k; n < Math.min(k + stride, part.length); n++) {
      if (part[n] < low) low = part[n];
      if (part[n] > high) high = part[n];
    }
    if (!Number.isFinite(low) || !Number.isFinite(high)) {
      isDown = false;
      continue;
    }
    const x = xOf(k);
    if (isDown && isSteps) pen.lineTo(x, yOf(before));
    if (isDown) pen.lineTo(x, yOf(low));
    else pen.moveTo(x, yOf(low));
    if (high !== low) pen.lineTo(x, yOf(high));
    // A value alone among blanks is a dot.
    if (!isDown && !Number.isFinite(part[k + stride])) pen.lineTo(x + 1, yOf(high));
    before = high;
    isDown = true;
  }
  pen.stroke();
}

export class Lanes {
  #lanes = [];
  #nFrames = 1;
  #rows = [];
  #heads;
  #head;

  /** @param onSeek Called with the frame that was pointed at; `onGrab` when a drag begins and ends. */
  constructor({ onSeek, onGrab = () => {}, hidden = new Set(), onHide = () => {}, saysValues = true }) {
    this.saysValues = saysValues;
    this.onSeek = onSeek;
    this.onGrab = onGrab;
    this.hidden = hidden;
    this.onHide = onHide;
    this.#heads = h("div", { class: "lane-choices", role: "group", "aria-label": "Columns shown" });
    this.body = h("div", { class: "lanes" });
    this.#head = h("div", { class: "playhead", "aria-hidden": "true" });
    this.element = h("section", { class: "lane-panel", "aria-label": "Values per step" }, this.#heads, this.body);
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(this.body);
    this.unsubscribe = onTheme(() => this.#draw());
    this.frame = 0;
  }

  /** Show these lanes for a film of that many frames. */
  set(lanes, nFrames) {
    const names = lanes.map((lane) => lane.name).join("\n");
    const isSame = names === this.#lanes.map((lane) => lane.name).join("\n") && this.#rows.length;
    this.#lanes = lanes;
    this.#nFrames = Math.max(nFrames, 1);
    if (isSame) this.#rows.forEach((row) => (row.lane = lanes.find((lane) => lane.name === row.lane.name)));
    else this.#build();
    this.#draw();
    this.at(this.frame);
  }

  /** A live film has grown. */
  grow(nFrames) {
    this.#nFrames = Math.max(nFrames, 1);
    this.#draw();
  }

  /** Move the mark to a frame, and say the values there. */
  at(frame) {
    this.frame = frame;
    for (const row of this.#rows) {
      const text = this.saysValues ? valueAt(row.lane, frame) : "";
      if (row.value.textContent !== text) row.value.textContent = text;
      if (row.canvas) row.head.style.transform = `translateX(${this.#x(frame, row.canvas.clientWidth)}px)`;
    }
  }

  close() {
    this.observer.disconnect();
    this.unsubscribe();
  }

  #x(frame, width) {
    return PAD + (frame / Math.max(1, this.#nFrames - 1)) * (width - 2 * PAD);
  }

  #build() {
    const boxes = this.#lanes.map((lane) => {
      const box = h("input", { type: "checkbox", checked: !this.hidden.has(lane.name) });
      box.addEventListener("change", () => {
        this.hidden[box.checked ? "delete" : "add"](lane.name);
        this.onHide(this.hidden);
        this.#build();
        this.#draw();
        this.at(this.frame);
      });
      return h("label", { class: "chip" }, box, lane.name);
    });
    this.#heads.replaceChildren(...(boxes.length > 1 ? boxes : []));
    this.#rows = this.#lanes.filter((lane) => !this.hidden.has(lane.name)).map((lane) => this.#row(lane));
    this.body.replaceChildren(...this.#rows.map((row) => row.element));
  }

  #row(lane) {
    const value = h("output", { class: "lane-value num" });
    const range = h("span", { class: "lane-range num" });
    const names = h("div", { class: "lane-names" }, h("span", { class: "lane-name", title: lane.name }, lane.name), value, range);
    if (!lane.isDrawn) return { lane, value, range, element: h("div", { class: "lane words" }, names) };
    const canvas = h("canvas", { class: "lane-canvas", role: "img", "aria-label": `${lane.name} over the steps` });
    const head = h("div", { class: "playhead", "aria-hidden": "true" });
    const plot = h("div", { class: "lane-plot", "data-lane": lane.name }, canvas, head);
    this.#listen(plot, canvas);
    return { lane, value, range, canvas, head, element: h("div", { class: "lane" }, names, plot) };
  }

  #listen(plot, canvas) {
    const seek = (event) => {
      const box = canvas.getBoundingClientRect();
      const share = (event.clientX - box.left - PAD) / Math.max(1, box.width - 2 * PAD);
      this.onSeek(Math.round(Math.max(0, Math.min(1, share)) * (this.#nFrames - 1)));
    };
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      plot.setPointerCapture(event.pointerId);
      this.onGrab(true);
      seek(event);
    });
    plot.addEventListener("pointermove", (event) => {
      if (plot.hasPointerCapture(event.pointerId)) seek(event);
    });
    const release = () => this.onGrab(false);
    plot.addEventListener("pointerup", release);
    plot.addEventListener("pointercancel", release);
  }

  #draw() {
    for (const { lane, canvas, range } of this.#rows) {
      if (!canvas) continue;
      const { pen, width, height } = sharp(canvas);
      const { low, high } = lane;
      range.textContent = low === high ? number(low, 3) : `${number(low, 3)} … ${number(high, 3)}`;
      const span = high - low || 1;
      const yOf = (n) => height - PAD - ((n - (high === low ? low - 0.5 : low)) / span) * (height - 2 * PAD);
      pen.clearRect(0, 0, width, height);
      if (low < 0 && high > 0) this.#rule(pen, yOf(0), width);
      pen.lineWidth = 1.25;
      pen.lineJoin = "round";
      lane.parts.forEach((part, k) => {
        pen.strokeStyle = themed(`--series-${k % COLOURS}`);
        drawLine(pen, part, { xOf: (n) => this.#x(n, width), yOf, width, isSteps: lane.isSteps });
      });
    }
    this.at(this.frame);
  }

  #rule(pen, y, width) {
    pen.strokeStyle = themed("--rule");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(PAD, Math.round(y) + 0.5);
    pen.lineTo(width - PAD, Math.round(y) + 0.5);
    pen.stroke();
  }
}
