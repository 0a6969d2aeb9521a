// Several films that act as one: a clock counts steps, and every film is kept at its step. A film
// that is late holds the clock back, one that is early waits, small gaps are closed by its speed.

import { Film } from "./film.js";
import { TextFilm } from "./text_film.js";

const HOLD = 1.2; // steps ahead of the clock at which a film waits
const LEAP = 6; // steps behind it at which it is sought
const GAIN = 0.25; // change of speed for each step of gap
const SETTLE_MS = 2000;

export class Ensemble extends Film {
  #timer = 0;
  #clock = 0; // steps, whole and part
  #before = 0;

  constructor(films) {
    super({ fps: Math.max(...films.map((film) => film.fps)), nFrames: Math.max(...films.map((film) => film.nFrames)) });
    this.films = films;
    for (const film of films) film.ready.then(() => this.#lengthen()).catch(() => {});
    this.ready = Promise.allSettled(films.map((film) => film.ready));
  }

  get isSettled() {
    return this.films.every((film) => film.isSettled || film.isBroken);
  }

  async play() {
    if (this.isPlaying) return;
    if (this.isAtEnd) this.frame = 0;
    this.setPlaying(true);
    await this.#gather(this.frame);
    if (this.isPlaying) this.#run();
  }

  pause() {
    if (!this.isPlaying) return;
    this.setPlaying(false);
    cancelAnimationFrame(this.#timer);
    for (const film of this.#videos) film.element.pause();
    this.seek(this.frame);
  }

  seek(frame) {
    const to = this.clamped(frame);
    this.#clock = to;
    for (const film of this.films) film.seek(to);
    this.show(to);
  }

  setRate(rate) {
    this.rate = rate;
  }

  close() {
    cancelAnimationFrame(this.#timer);
    for (const film of this.films) film.close();
  }

  get #videos() {
    return this.films.filter((film) => !(film instanceof TextFilm) && !film.element.error);
  }

  #lengthen() {
    this.nFrames = Math.max(...this.films.map((film) => film.nFrames));
    this.tell("grow");
  }

  /** Bring every film to a step, and wait until its picture is there. */
  async #gather(frame) {
    this.seek(frame);
    const limit = performance.now() + SETTLE_MS;
    while (this.isPlaying && performance.now() < limit && !this.films.every((film) => film.isSettled || film.element.error)) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  }

  #run() {
    this.#clock = this.frame + 0.5;
    this.#before = performance.now();
    for (const film of this.#videos) this.#start(film);
    this.#timer = requestAnimationFrame((now) => this.#tick(now));
  }

  #start(film) {
    if (film.frame >= film.nFrames - 1) return;
    film.element.playbackRate = this.#rateOf(film);
    film.element.play().catch(() => {});
  }

  #rateOf(film) {
    return (this.rate * this.fps) / film.fps;
  }

  #tick(now) {
    const elapsed = Math.min(0.1, (now - this.#before) / 1000);
    this.#before = now;
    const running = this.#videos.filter((film) => this.#clock < film.nFrames - 0.5);
    const places = running.map((film) => film.element.currentTime * film.fps);
    const slowest = places.length ? Math.min(...places) : Infinity;
    this.#clock = Math.max(this.#clock, Math.min(this.#clock + elapsed * this.fps * this.rate, slowest + 1));
    running.forEach((film, k) => this.#keep(film, places[k] - this.#clock));
    for (const film of this.#videos) {
      if (this.#clock >= film.nFrames - 0.5 && !film.element.paused) this.#park(film);
    }
    const frame = this.clamped(Math.floor(this.#clock));
    for (const film of this.films) {
      if (film instanceof TextFilm) film.seek(Math.min(frame, film.nFrames - 1));
    }
    this.show(frame);
    if (this.#clock < this.nFrames) this.#timer = requestAnimationFrame((at) => this.#tick(at));
    else this.#end();
  }

  /** @param gap Steps that a film is ahead of the clock. */
  #keep(film, gap) {
    const { element } = film;
    if (gap > HOLD) {
      element.pause();
    } else if (gap < -LEAP) {
      element.currentTime = (this.#clock + 1) / film.fps;
    } else {
      const rate = this.#rateOf(film) * Math.max(0.6, Math.min(1.5, 1 - GAIN * gap));
      const usual = Math.max(0.0625, Math.min(16, rate));
      if (Math.abs(element.playbackRate - usual) > 0.04 * usual) element.playbackRate = usual;
      if (element.paused && gap < 0.3 && !element.ended) element.play().catch(() => {});
    }
  }

  /** A film that is over shows its last step. */
  #park(film) {
    film.element.pause();
    film.seek(film.nFrames - 1);
  }

  async #end() {
    if (!this.loops) {
      this.pause();
      return;
    }
    for (const film of this.#videos) film.element.pause();
    await this.#gather(0);
    if (this.isPlaying) this.#run();
  }
}
