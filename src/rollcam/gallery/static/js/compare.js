// The page on which episodes stand side by side, in step, with their curves laid over one another.

import { playbackKeys, Controls } from "./controls.js";
import { lanesOf } from "./columns.js";
import { h, iconButton, nameInto, notice } from "./dom.js";
import { Ensemble } from "./ensemble.js";
import { captionOf } from "./facts.js";
import { number, plain } from "./format.js";
import { useKeys } from "./keys.js";
import { Lanes } from "./lanes.js";
import { MAX_PICKS } from "./picks.js";
import { filmOf } from "./player.js";
import { carriedOf, go, hrefOf, note, questionOf } from "./route.js";
import { getJson } from "./source.js";

const SCALARS = ["return", "reward"];

export class Compare {
  #stop = new AbortController();
  #ensemble = null;
  #lanes = null;
  #timer = 0;
  #returns = [];
  #cells = [];

  constructor({ source, place }) {
    this.source = source;
    this.place = place;
    this.element = h("main", { class: "compare", tabIndex: -1 });
    document.title = "Compare · Rollcam";
    useKeys({ Escape: () => go("find", "", carriedOf(place.params)) });
    this.#open();
  }

  close() {
    this.#stop.abort();
    clearTimeout(this.#timer);
    this.#ensemble?.close();
    this.#lanes?.close();
  }

  async #open() {
    const { params } = this.place;
    try {
      if (params.has("stages")) await this.#toStages(params);
      else await this.#show(params.getAll("id").slice(0, MAX_PICKS));
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#say("These episodes cannot be compared", error.message);
    }
  }

  #say(title, text) {
    this.element.replaceChildren(this.#bar(), notice(title, text, h("a", { class: "button", href: hrefOf("find") }, "Back to the episodes")));
  }

  #bar(...tools) {
    return h("header", { class: "bar" },
      h("a", { class: "button back", href: hrefOf("find", "", carriedOf(this.place.params)) }, "← Episodes"),
      h("h1", { class: "title" }, "Compare"), h("div", { class: "tools" }, tools));
  }

  /** One episode per training stage: evenly spread over the training steps. */
  async #toStages(params) {
    const n = Math.max(2, Math.min(MAX_PICKS, Number(params.get("stages")) || 9));
    const axis = params.get("x") || this.source.gallery.x || "started_at";
    const question = questionOf(params);
    question.set("sort", axis);
    for (const status of ["complete", "truncated_by_crash"]) question.append("is", `status=${status}`);
    const { total } = await this.source.list(question, 0, 1);
    const offsets = [...new Set(Array.from({ length: n }, (_, k) => Math.round((k * (total - 1)) / (n - 1))))];
    const found = await Promise.all(offsets.filter((k) => k >= 0).map((k) => this.source.list(question, k, 1)));
    const ids = found.flatMap(({ rows }) => rows).filter((row) => row.codec).map((row) => row.id);
    if (this.#stop.signal.aborted) return;
    const chosen = carriedOf(params);
    for (const id of ids) chosen.append("id", id);
    go("compare", "", chosen, { replace: true });
    if (!ids.length) this.#say("Nothing to compare", "No episode here has a film.");
  }

  async #show(ids) {
    if (!ids.length) {
      this.#say("Nothing to compare", "Pick up to twelve episodes in the list (the box in front of each, or the key x), then press Compare.");
      return;
    }
    const { signal } = this.#stop;
    const answers = await Promise.allSettled(ids.map((id) => this.source.facts(id, { signal })));
    if (signal.aborted) return;
    const shown = answers.filter(({ value }) => value?.media).map(({ value }) => value);
    const missing = ids.length - shown.length;
    if (!shown.length) {
      this.#say("Nothing to compare", "None of these episodes has a film any more.");
      return;
    }
    const films = shown.map((facts) => filmOf(facts, { isStatic: !this.source.isLive }));
    this.#ensemble = new Ensemble(films);
    const controls = new Controls(this.#ensemble);
    const cells = shown.map((facts, k) => this.#cell(facts, films[k], k));
    this.#lanes = new Lanes({ onSeek: (frame) => this.#ensemble.seek(frame), onGrab: (isHeld) => isHeld && this.#ensemble.pause(), saysValues: false });
    this.element.replaceChildren(
      this.#bar(missing ? h("span", { class: "quiet" }, `${missing} without a film`) : ""),
      h("div", { class: "cells", "data-n": String(Math.min(shown.length, 12)) }, cells),
      h("div", { class: "compare-foot" }, controls.element, this.#lanes.element));
    useKeys({ ...playbackKeys(controls), Escape: () => go("find", "", carriedOf(this.place.params)), "/": () => go("find", "", carriedOf(this.place.params)) });
    this.#cells = cells;
    this.#ensemble.addEventListener("frame", () => this.#showFrame());
    this.#ensemble.addEventListener("state", () => this.#noteFrame());
    this.#ensemble.ready.then(() => this.#begin());
    this.element.focus({ preventScroll: true });
    await this.#loadCurves(shown);
  }

  #begin() {
    const frame = Number(this.place.params.get("frame"));
    if (frame > 0) this.#ensemble.seek(frame);
  }

  #cell({ id, sidecar }, film, k) {
    const step = h("span", { class: "cell-step num" });
    const others = new URLSearchParams([...this.place.params].filter(([name, value]) => name !== "id" || value !== id));
    const cell = h("figure", { class: "cell", "data-id": id },
      h("div", { class: "stage", onclick: () => this.#ensemble.toggle() }, film.element),
      h("figcaption", {},
        h("span", { class: "swatch", "aria-hidden": "true" }),
        h("a", { class: "cell-name", href: hrefOf("watch", id, carriedOf(this.place.params)), title: sidecar.name }),
        step,
        iconButton("close", `Take ${sidecar.name} out`, () => go("compare", "", others)),
        h("span", { class: "cell-facts quiet num" }, [captionOf(sidecar), stageOf(sidecar)].filter(Boolean).join(" · "))));
    cell.querySelector(".swatch").style.backgroundColor = `var(--series-${k % 12})`;
    nameInto(cell.querySelector(".cell-name"), sidecar.name);
    cell.step = step;
    film.ready.catch((error) => cell.querySelector(".stage").append(notice("No picture", error.message)));
    return cell;
  }

  #showFrame() {
    const { frame, films } = this.#ensemble;
    const cells = this.#cells;
    this.#lanes.at(frame);
    films.forEach((film, k) => {
      const last = film.nFrames - 1;
      const isOver = frame > last;
      const now = this.#returns[k]?.[Math.min(frame, last)];
      const told = now === null || now === undefined ? "" : number(now);
      const text = isOver ? `${told} at ${last}, its end` : told;
      if (cells[k].step.textContent !== text) cells[k].step.textContent = text;
      cells[k].classList.toggle("over", isOver);
    });
    this.#noteFrame();
  }

  #noteFrame() {
    clearTimeout(this.#timer);
    if (this.#ensemble.isPlaying) return;
    this.#timer = setTimeout(() => {
      this.place.params.set("frame", this.#ensemble.frame);
      note("compare", "", this.place.params);
    }, 250);
  }

  async #loadCurves(shown) {
    const steps = await Promise.all(shown.map((facts) =>
      facts.steps ? getJson(facts.steps, { signal: this.#stop.signal }).catch(() => null) : null));
    if (this.#stop.signal.aborted) return;
    this.#returns = steps.map((one) => one?.columns?.return ?? null);
    const n = Math.max(...steps.map((one) => one?.n ?? 0));
    const columns = {};
    for (const name of SCALARS) {
      if (!steps.some((one) => one?.columns?.[name])) continue;
      columns[name] = Array.from({ length: n }, (_, k) => steps.map((one) => one?.columns?.[name]?.[k] ?? null));
    }
    this.#lanes.set(lanesOf(columns), Math.max(n, this.#ensemble.nFrames));
    this.#lanes.element.hidden = !Object.keys(columns).length;
    this.#showFrame();
  }
}

/** Where the trainer stood when the episode was filmed. */
function stageOf({ context_at_start: start, step_index: step, started_at: at }) {
  const counters = Object.entries(start ?? {}).filter(([, value]) => typeof value === "number");
  const [name, value] = counters.find(([key]) => /step/i.test(key)) ?? counters[0] ?? ["env step", step];
  return value === null || value === undefined ? plain("started_at", at) : `${name} ${number(value)}`;
}
