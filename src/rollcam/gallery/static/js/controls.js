// The bar under a film: play, step, scrub, speed, loop, and where it is.

import { h, icon, iconButton } from "./dom.js";
import { seconds } from "./format.js";

export const RATES = [0.1, 0.25, 0.5, 1, 1.5, 2, 4, 8];

/** The next speed up or down. */
export function otherRate(rate, way) {
  const k = RATES.indexOf(rate);
  return RATES[Math.max(0, Math.min(RATES.length - 1, (k < 0 ? 3 : k) + way))];
}

export class Controls {
  /** @param film What is controlled: a Film, or several that act as one. */
  constructor(film) {
    this.film = film;
    this.play = iconButton("play", "Play (Space)", () => film.toggle(), { class: "icon-button play" });
    this.slider = h("input", {
      type: "range", class: "scrub", min: 0, max: 0, step: 1, value: 0, "aria-label": "Step",
      oninput: () => film.seek(Number(this.slider.value)),
    });
    this.position = h("output", { class: "position num" });
    this.speed = h("select", { class: "speed", "aria-label": "Speed", title: "Speed (< and >)", onchange: () => this.setRate(Number(this.speed.value)) },
      RATES.map((rate) => h("option", { value: String(rate), selected: rate === 1 }, `${rate}×`)));
    this.loop = iconButton("loop", "Loop (L)", () => this.toggleLoop(), { "aria-pressed": "false" });
    this.element = h("div", { class: "controls", role: "group", "aria-label": "Playback" },
      iconButton("back", "One step back ( , )", () => film.step(-1)),
      this.play,
      iconButton("forward", "One step on ( . )", () => film.step(1)),
      this.slider, this.position, this.speed, this.loop);
    for (const name of ["frame", "state", "grow"]) film.addEventListener(name, () => this.update());
    this.update();
  }

  toggleLoop() {
    this.film.loops = !this.film.loops;
    this.loop.setAttribute("aria-pressed", String(this.film.loops));
  }

  setRate(rate) {
    this.film.setRate(rate);
    this.speed.value = String(rate);
  }

  update() {
    const { frame, nFrames, isPlaying } = this.film;
    const last = nFrames - 1;
    this.slider.max = last;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `step ${frame} of ${last}`);
    this.position.textContent = `${String(frame).padStart(String(last).length, "\u2007")} / ${last}  ${seconds(this.film.timeOf(frame))}`;
    const name = isPlaying ? "pause" : "play";
    if (this.play.dataset.shows !== name) {
      this.play.dataset.shows = name;
      this.play.replaceChildren(icon(name));
      this.play.setAttribute("aria-label", isPlaying ? "Pause (Space)" : "Play (Space)");
    }
  }
}

/** What the keys do to a film; the place that has it adds its own. */
export const playbackKeys = (controls) => ({
  " ": () => controls.film.toggle(),
  ",": () => controls.film.step(-1),
  ".": () => controls.film.step(1),
  ArrowLeft: () => controls.film.step(-1),
  ArrowRight: () => controls.film.step(1),
  "shift+ArrowLeft": () => controls.film.step(-10),
  "shift+ArrowRight": () => controls.film.step(10),
  Home: () => controls.film.step(-Infinity),
  End: () => controls.film.step(Infinity),
  "<": () => controls.setRate(otherRate(controls.film.rate, -1)),
  ">": () => controls.setRate(otherRate(controls.film.rate, 1)),
  l: () => controls.toggleLoop(),
});
