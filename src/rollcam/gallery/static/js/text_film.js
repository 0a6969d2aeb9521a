// A film of text, drawn by our own terminal.

import { drawScreen, parseCast, Screens } from "./cast.js";
import { h } from "./dom.js";
import { Film } from "./film.js";
import { reach } from "./source.js";

/** A screen that fits its type to the room it is given. */
export class ScreenElement {
  #observer;

  constructor(label) {
    this.pre = h("pre", { class: "tty", role: "img", "aria-label": label, tabIndex: -1 });
    this.element = h("div", { class: "tty-box picture" }, this.pre);
    this.#observer = new ResizeObserver(() => this.#fit());
    this.#observer.observe(this.element);
  }

  size(width, height) {
    if (this.width === width && this.height === height) return;
    this.width = width;
    this.height = height;
    // A cell is 0.602 em wide in the faces that are asked for, and 1.2 em high.
    this.element.style.aspectRatio = `${width * 0.602 + 2} / ${height * 1.2 + 1.4}`;
    this.#fit();
  }

  draw(terminal) {
    this.size(terminal.columns, terminal.rows);
    drawScreen(this.pre, terminal);
  }

  close() {
    this.#observer.disconnect();
  }

  #fit() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !this.width) return;
    const byWidth = clientWidth / (this.width * 0.602 + 2);
    const byHeight = clientHeight ? clientHeight / (this.height * 1.2 + 1.4) : byWidth;
    this.pre.style.fontSize = `${Math.max(2, Math.min(byWidth, byHeight, 40)).toFixed(2)}px`;
  }
}

export class TextFilm extends Film {
  #screen;
  #screens = null;
  #frames = [];
  #timer = 0;
  #from = 0; // where in the film playback began, seconds
  #since = 0; // and when, by the clock

  constructor({ url, fps, nFrames, width, height, label = "Text episode" }) {
    super({ fps, nFrames });
    this.#screen = new ScreenElement(label);
    this.element = this.#screen.element;
    if (width && height) this.#screen.size(width, height);
    this.ready = url ? this.#open(url) : Promise.resolve();
    this.ready.catch(() => {});
  }

  get isSettled() {
    return this.#screens !== null;
  }

  timeOf(frame) {
    return this.#frames[frame]?.at ?? super.timeOf(frame);
  }

  play() {
    if (this.isPlaying || !this.#screens) return;
    if (this.isAtEnd) this.seek(0);
    this.#run();
    this.setPlaying(true);
  }

  pause() {
    cancelAnimationFrame(this.#timer);
    this.setPlaying(false);
  }

  seek(frame) {
    this.#draw(this.clamped(frame));
    if (this.isPlaying) this.#run();
  }

  setRate(rate) {
    this.rate = rate;
    if (this.isPlaying) this.#run();
  }

  close() {
    cancelAnimationFrame(this.#timer);
    this.#screen.close();
  }

  /** The screen as it is shown now. */
  get terminal() {
    return this.#screens?.at(this.frame) ?? null;
  }

  /** Take the frames of a cast; a growing one is given again and again. */
  take(cast) {
    const isFirst = this.#screens === null;
    this.#frames = cast.frames;
    this.duration = cast.duration;
    this.#screens = new Screens(cast);
    this.nFrames = Math.max(1, cast.frames.length);
    this.#screen.size(cast.width, cast.height);
    if (isFirst && cast.frames.length) this.#redraw();
  }

  async #open(url) {
    const answer = await reach(url);
    const cast = parseCast(await answer.text());
    if (!cast.frames.length) throw new Error("this cast holds no frame");
    this.take(cast);
  }

  #redraw() {
    this.#screen.draw(this.#screens.at(this.frame));
  }

  #draw(frame) {
    const isOther = frame !== this.frame;
    this.frame = frame;
    if (this.#screens && this.#frames.length) this.#redraw();
    if (isOther) this.tell("frame");
  }

  #run() {
    cancelAnimationFrame(this.#timer);
    this.#from = this.timeOf(this.frame);
    this.#since = performance.now();
    this.#timer = requestAnimationFrame(() => this.#tick());
  }

  #tick() {
    const now = this.#from + ((performance.now() - this.#since) / 1000) * this.rate;
    let frame = this.frame;
    while (frame + 1 < this.nFrames && this.timeOf(frame + 1) <= now) frame += 1;
    if (frame !== this.frame) this.#draw(frame);
    const end = Math.max(this.duration ?? 0, this.timeOf(this.nFrames - 1) + 1 / this.fps);
    if (now < end) {
      this.#timer = requestAnimationFrame(() => this.#tick());
    } else if (this.loops) {
      this.#draw(0);
      this.#run();
    } else {
      this.setPlaying(false);
    }
  }
}
