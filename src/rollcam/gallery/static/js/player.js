// A film with its bar and its lanes: what the watch page is made of.

import { lanesOf } from "./columns.js";
import { Controls } from "./controls.js";
import { h, notice } from "./dom.js";
import { Lanes } from "./lanes.js";
import { LiveTextFilm, LiveVideoFilm } from "./live_film.js";
import { TextFilm } from "./text_film.js";
import { VideoFilm } from "./video_film.js";

const STORED = "rollcam.hidden-columns";

/** The film of an episode, from the answer of `facts.json`. */
export function filmOf({ sidecar, media }, { isStatic }) {
  const shape = {
    url: media.url, fps: sidecar.fps, nFrames: lengthOf(sidecar), width: sidecar.width, height: sidecar.height,
    label: `Film of ${sidecar.name}`, isStatic,
  };
  return sidecar.codec === "asciicast" ? new TextFilm(shape) : new VideoFilm(shape);
}

/** Frames of the film's time: those that were dropped left their time, and their rows, behind. */
function lengthOf({ n_frames: n, n_dropped: dropped, duration_s: duration, fps }) {
  if (!dropped || !(duration > 0) || !(fps > 0)) return n;
  return Math.max(n, Math.min(n + dropped, Math.round(duration * fps)));
}

/** The film of an episode that is being recorded. */
export function liveFilmOf(growing) {
  const { media: url, fps, width, height } = growing;
  const shape = { url, fps, width, height, label: `Live film of ${growing.name ?? growing.env_id ?? "an episode"}` };
  return growing.codec === "asciicast" ? new LiveTextFilm(shape) : new LiveVideoFilm(shape);
}

/** What stands in the place of a film that there is not. */
export function noFilm(sidecar) {
  const why = {
    failed: "Recording failed. What is known of the episode stands beside this.",
    empty: "The environment rendered nothing: was render_mode set to rgb_array or ansi?",
  }[sidecar.status] ?? "The keep policy did not keep this film, or it was deleted; its facts remain.";
  return h("div", { class: "stage" }, notice("There is no film", why));
}

export class Player {
  #wasPlaying = false;

  constructor(film) {
    this.film = film;
    this.controls = new Controls(film);
    this.lanes = new Lanes({
      onSeek: (frame) => film.seek(frame),
      onGrab: (isHeld) => this.#grab(isHeld),
      hidden: readHidden(),
      onHide: writeHidden,
    });
    this.stage = h("div", { class: "stage", onclick: () => film.toggle() }, film.element);
    this.stage.film = film;
    this.element = h("div", { class: "player" }, this.stage, this.controls.element, this.lanes.element);
    film.addEventListener("frame", () => this.lanes.at(film.frame));
    film.addEventListener("trouble", ({ detail }) => this.fail(detail));
    film.ready.catch((error) => this.fail(error.message));
  }

  setColumns(columns) {
    this.lanes.set(lanesOf(columns), this.film.nFrames);
    this.lanes.element.hidden = !Object.keys(columns ?? {}).length;
  }

  fail(text) {
    this.stage.querySelector(".notice")?.remove();
    this.stage.append(notice("The film cannot be shown", text));
  }

  close() {
    this.lanes.close();
    this.film.close();
  }

  /** While a lane is dragged the film stands still. */
  #grab(isHeld) {
    if (isHeld) {
      this.#wasPlaying = this.film.isPlaying;
      this.film.pause();
    } else if (this.#wasPlaying) {
      this.#wasPlaying = false;
      this.film.play();
    }
  }
}

function readHidden() {
  try {
    return new Set(JSON.parse(localStorage.getItem(STORED) ?? "[]"));
  } catch {
    return new Set();
  }
}

function writeHidden(hidden) {
  try {
    localStorage.setItem(STORED, JSON.stringify([...hidden]));
  } catch {
    // A browser that keeps nothing shows every column next time.
  }
}
