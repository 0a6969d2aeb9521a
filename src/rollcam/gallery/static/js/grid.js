// The episodes as cards with posters; a card plays while it is pointed at, or all of them at once.

import { h, nameInto } from "./dom.js";
import { captionOf, statusBadge } from "./facts.js";
import { plain } from "./format.js";
import { filmOf } from "./player.js";
import { hrefOf } from "./route.js";
import { address } from "./source.js";
import { TextFilm } from "./text_film.js";
import { VideoFilm } from "./video_film.js";
import { Windowed } from "./windowed.js";

const CARD_WIDTH = 208;
const ROW_HEIGHT = 202;
const HOVER_MS = 120;
const STILL_MS = 150; // cards that only scroll by fetch nothing
const MAX_STILL = 512 * 1024; // bytes of a cast that is fetched for one screen

/** The film as the row lets us guess it, which saves a request for each card; null for text. */
function guessedFilm(row, isStatic) {
  if (row.codec === "asciicast") return null;
  return new VideoFilm({
    url: `api/e/${row.id}/media.mp4`, fps: row.duration_s > 0 ? row.n_frames / row.duration_s : 30,
    nFrames: row.n_frames, isStatic, isLoop: true, label: `Film of ${row.name}`,
  });
}

export class Grid {
  #films = new Map(); // by card

  constructor({ rows, state, source }) {
    Object.assign(this, { rows, state, source });
    this.playsAll = false;
    this.scroller = h("div", { class: "g-scroll", role: "list", "aria-label": "Episodes", tabIndex: 0 });
    this.element = h("div", { class: "grid" }, this.scroller);
    this.window = new Windowed(this.scroller, {
      make: () => this.#make(),
      fill: (card, offset) => this.#fill(card, offset),
      rowHeight: ROW_HEIGHT,
      columns: () => Math.max(2, Math.floor(this.scroller.clientWidth / CARD_WIDTH)),
    });
  }

  close() {
    for (const card of [...this.#films.keys()]) this.#stop(card);
    for (const card of this.window.body.children) this.#dropStill(card);
    this.window.close();
  }

  setColumns() {}

  drawHead() {}

  /** Play every card that is seen, or none. */
  playAll(playsAll) {
    this.playsAll = playsAll;
    for (const card of this.window.body.children) {
      if (playsAll && !card.hidden) this.#play(card);
      else this.#stop(card);
    }
  }

  #make() {
    const poster = h("img", { class: "poster", alt: "", loading: "lazy", decoding: "async" });
    poster.addEventListener("load", () => poster.classList.add("loaded"));
    poster.addEventListener("error", () => poster.classList.remove("loaded"));
    const frame = h("div", { class: "card-film" }, poster);
    const box = h("input", { type: "checkbox", tabIndex: -1 });
    const link = h("a", { class: "card-name", tabIndex: -1 });
    const caption = h("div", { class: "card-caption num" });
    const badge = h("div", { class: "card-badge" });
    const card = h("div", { class: "card-slot", role: "listitem" },
      h("div", { class: "card" }, frame, badge, h("div", { class: "card-line" }, link, box), caption));
    Object.assign(card, { poster, frame, box, link, caption, badge });
    box.addEventListener("change", () => this.state.pick(card.row, box.checked));
    frame.addEventListener("click", () => link.click());
    card.addEventListener("click", (event) => event.target !== box && this.state.select(card.offset));
    card.addEventListener("pointerenter", () => {
      card.timer = setTimeout(() => this.#play(card), HOVER_MS);
    });
    card.addEventListener("pointerleave", () => {
      clearTimeout(card.timer);
      if (!this.playsAll) this.#stop(card);
    });
    return card;
  }

  #fill(card, offset) {
    const row = this.rows.at(offset);
    card.id = `row-${offset}`;
    card.classList.toggle("selected", offset === this.state.selected);
    if (offset === this.state.selected) card.setAttribute("aria-current", "true");
    else card.removeAttribute("aria-current");
    const isPicked = row !== null && this.state.picked.has(row.id);
    if (card.box.checked !== isPicked) card.box.checked = isPicked;
    if (card.row === row && row !== null) return;
    if (card.row?.id !== row?.id) this.#stop(card);
    card.row = row;
    card.dataset.id = row?.id ?? "";
    nameInto(card.link, row?.name ?? "");
    card.link.title = row ? `${row.name}\n${plain("started_at", row.started_at)}` : "";
    card.box.setAttribute("aria-label", `Pick ${row?.name ?? ""}`);
    card.setAttribute("aria-label", row ? `${row.name}, ${captionOf(row)}` : "Loading");
    card.caption.textContent = row ? captionOf(row) : "";
    card.badge.replaceChildren(...(row && row.status !== "complete" ? [statusBadge(row.status)] : []));
    this.#poster(card, row);
    this.#still(card, row);
    if (row) card.link.href = hrefOf("watch", row.id, this.state.carried);
    if (row && this.playsAll) this.#play(card);
  }

  #poster(card, row) {
    const hasPicture = row?.codec && row.codec !== "asciicast";
    card.frame.dataset.says = !row || hasPicture ? "" : row.codec ? "text" : "no film";
    const src = hasPicture ? address(`api/e/${row.id}/poster-middle.jpg`) : "";
    if (card.poster.dataset.src === src) return;
    card.poster.dataset.src = src;
    card.poster.classList.remove("loaded");
    card.poster.hidden = !src;
    if (src) card.poster.src = src;
    else card.poster.removeAttribute("src");
  }

  /** The poster of a text episode: its middle screen, drawn here. */
  #still(card, row) {
    if (card.still?.id === row?.id) return;
    this.#dropStill(card);
    if (row?.codec !== "asciicast" || row.size_bytes > MAX_STILL) return;
    const still = (card.still = { id: row.id, film: null, timer: setTimeout(() => this.#drawStill(card, still, row), STILL_MS) });
  }

  async #drawStill(card, still, row) {
    still.film = new TextFilm({ url: `api/e/${row.id}/media.cast`, fps: 1, nFrames: row.n_frames, label: `Screen of ${row.name}` });
    try {
      await still.film.ready;
    } catch {
      return; // "text" is what the card says, then
    }
    if (card.still !== still) return;
    still.film.element.classList.add("still");
    still.film.seek((still.film.nFrames - 1) / 2);
    card.poster.after(still.film.element);
  }

  #dropStill(card) {
    clearTimeout(card.still?.timer);
    card.still?.film?.element.remove();
    card.still?.film?.close();
    card.still = null;
  }

  async #play(card) {
    const { row } = card;
    if (!row?.codec || this.#films.has(card)) return;
    this.#films.set(card, null);
    try {
      const isFilm = (film) => card.row === row && this.#films.get(card) === film;
      let film = guessedFilm(row, !this.source.isLive);
      if (film) this.#show(card, film);
      const isRight = film ? await film.ready.then(() => true, () => false) : false;
      if (isRight || !isFilm(film ?? null)) return;
      film?.element.remove();
      film?.close();
      this.#films.set(card, null);
      const facts = await this.source.facts(row.id);
      if (!isFilm(null) || !facts.media) return;
      film = filmOf(facts, { isStatic: !this.source.isLive });
      this.#show(card, film);
      await film.ready;
      film.play(); // text begins when it is there
    } catch {
      // The poster stays; the episode's own page says what is wrong.
    }
  }

  /** Put a film over the poster, which is seen until its first picture is there. */
  #show(card, film) {
    this.#films.set(card, film);
    film.loops = true;
    film.element.tabIndex = -1;
    // Sixty empty pictures cost the browser as much to lay over the posters as full ones.
    if (film instanceof VideoFilm) {
      film.element.classList.add("coming");
      film.element.addEventListener("loadeddata", () => film.element.classList.remove("coming"), { once: true });
    }
    card.frame.append(film.element);
    film.play();
  }

  #stop(card) {
    const film = this.#films.get(card);
    this.#films.delete(card);
    if (!film) return;
    film.element.remove();
    film.close();
  }
}
