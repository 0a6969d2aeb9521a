// The page on which an episode is found: search, filters, the scatter, and the list.

import { Asked } from "./asked.js";
import { announce, h, iconButton, notice, toast } from "./dom.js";
import { captionOf } from "./facts.js";
import { Filters } from "./filters.js";
import { label, number } from "./format.js";
import { Grid } from "./grid.js";
import { useKeys } from "./keys.js";
import { LiveStrip } from "./live_strip.js";
import { picks } from "./picks.js";
import { Plot } from "./plot.js";
import { carriedOf, go } from "./route.js";
import { Rows } from "./rows.js";
import { Table } from "./table.js";

const TYPING_MS = 180;
const LOOK_AGAIN_MS = 1000;
const PRESETS = [["Newest", "-started_at", ""], ["Best", "-episode_return", "b"], ["Worst", "episode_return", "w"], ["Longest", "-episode_length", ""]];

export class Find {
  #lookTimer = 0;
  #typingTimer = 0;
  #isShown = false;
  #facetsStop = new AbortController();
  #scrollTop = 0;

  constructor({ source, live }) {
    this.source = source;
    this.live = live;
    this.asked = new Asked();
    this.selected = -1;
    this.picked = picks;
    this.rows = new Rows(source);
    this.rows.addEventListener("rows", () => this.#showRows());
    this.filters = new Filters({ state: this });
    this.plot = new Plot({ source, state: this });
    this.list = null;
    this.#build();
    picks.addEventListener("change", () => this.#showPicks());
    live.addEventListener("change", () => this.#arrived());
  }

  // What the list, the filters and the plot ask of this page.
  get sort() { return this.asked.sort; }
  get question() { return this.asked.question; }
  get carried() { return carriedOf(this.asked.params); }
  get isFiltered() { return this.asked.isFiltered; }
  chosen(column) { return this.asked.chosen(column); }
  range(column) { return this.asked.range(column); }
  choose(column, value, isChosen) { this.change(this.asked.withChoice(column, value, isChosen)); }
  setRange(column, low, high) { this.change(this.asked.withRange(column, low, high)); }
  sortBy(column) { this.change(this.asked.sortedBy(column)); }
  clear() { this.change(this.asked.cleared()); }
  pick(row, isPicked) { if (row) picks.toggle(row.id, isPicked); }

  /** Go where another question is asked; the back button leads here again. */
  change(asked, { replace = false } = {}) {
    go("find", "", asked.params, { replace });
  }

  /** Show what the address says. */
  show(params) {
    const before = this.asked, isFirst = !this.rows.isKnown && !this.#isShown;
    this.asked = new Asked(params);
    this.#isShown = true;
    document.title = `${this.source.gallery.title ?? "Episodes"} · Rollcam`;
    useKeys(this.#keys());
    if (this.search.value !== this.asked.text && document.activeElement !== this.search) this.search.value = this.asked.text;
    const isOther = String(before.question) !== String(this.asked.question);
    const isOtherAxis = before.params.get("x") !== this.asked.params.get("x") || before.params.get("y") !== this.asked.params.get("y");
    if (!this.list || before.view !== this.asked.view) this.#makeList();
    if (isFirst || isOther || isOtherAxis) this.#ask();
    else this.#restore();
    this.#showPresets();
  }

  /** Another page takes the place of this one, for a while. */
  hide() {
    this.#isShown = false;
    this.#scrollTop = this.list?.scroller.scrollTop ?? 0;
    if (this.asked.view === "grid") this.list.playAll(false);
    this.playAll?.setAttribute("aria-pressed", "false");
  }

  #restore() {
    // Elements that are not shown forget how far they were scrolled.
    this.list.scroller.scrollTop = this.#scrollTop;
    this.list.window.layout();
    this.#arrived();
  }

  #build() {
    this.search = h("input", {
      type: "search", class: "search", placeholder: "Search name, env, id, metadata", "aria-label": "Search", autocomplete: "off", spellcheck: false,
      oninput: () => this.#typed(), onkeydown: (event) => this.#searchKey(event),
    });
    this.count = h("p", { class: "count-line num", role: "status" });
    this.fresh = h("button", { type: "button", class: "fresh", hidden: true, onclick: () => this.#showFresh() });
    this.presets = h("div", { class: "presets", role: "group", "aria-label": "Order" }, PRESETS.map(([text, sort, key]) =>
      h("button", { type: "button", class: "segment", "data-sort": sort, title: key ? `${text} first (${key})` : `${text} first`, onclick: () => this.change(this.asked.with("sort", sort)) }, text)));
    this.outliers = h("button", { type: "button", class: "button", title: "Episodes whose return lies far from that of their time", onclick: () => this.#showOutliers() }, "Outliers");
    this.stages = h("button", { type: "button", class: "button", title: "Compare one episode per training stage", onclick: () => this.#compareStages() }, "Stages");
    this.views = h("div", { class: "segments views", role: "group", "aria-label": "View" },
      iconButton("table", "Table (g)", () => this.#setView("table"), { "data-view": "table" }),
      iconButton("grid", "Grid (g)", () => this.#setView("grid"), { "data-view": "grid" }));
    this.playAll = h("button", { type: "button", class: "button", "aria-pressed": "false", hidden: true, onclick: () => this.#togglePlayAll() }, "Play all");
    this.tray = h("div", { class: "tray", hidden: true });
    this.toFilters = iconButton("filter", "Filters", () => this.#toggleFilters(), { class: "icon-button to-filters", "aria-expanded": "false" });
    this.holder = h("div", { class: "holder" });
    const strip = new LiveStrip(this.live);
    this.element = h("div", { class: "find" },
      h("header", { class: "bar" },
        h("h1", { class: "title brand" }, "Rollcam"), h("span", { class: "quiet folder" }, this.source.gallery.title ?? ""),
        this.search, this.toFilters, strip.element, h("div", { class: "tools" }, this.tray,
          h("button", { type: "button", class: "icon-button", title: "Keys (?)", "aria-label": "Keys", onclick: () => document.dispatchEvent(new CustomEvent("help")) }, "?"))),
      h("div", { class: "find-body" }, this.filters.element,
        h("main", { class: "results", tabIndex: -1 }, this.plot.element,
          h("div", { class: "toolbar" }, this.count, this.fresh, this.presets, this.outliers, this.stages, this.playAll, this.views),
          this.holder)));
    this.#showNotes();
  }

  #keys() {
    const move = (n) => () => this.#move(n);
    return {
      "/": () => this.search.focus(),
      Escape: () => this.#escape(),
      ArrowDown: () => this.#move(this.list.window.columns),
      ArrowUp: () => this.#move(-this.list.window.columns),
      ArrowRight: () => this.asked.view === "grid" && this.#move(1),
      ArrowLeft: () => this.asked.view === "grid" && this.#move(-1),
      PageDown: () => this.#move(this.list.window.pageSize),
      PageUp: () => this.#move(-this.list.window.pageSize),
      Home: move(-Infinity),
      End: move(Infinity),
      Enter: () => this.open(this.selected),
      x: () => this.pick(this.rows.at(this.selected)),
      c: () => picks.compare(),
      g: () => this.#setView(this.asked.view === "grid" ? "table" : "grid"),
      b: () => this.change(this.asked.with("sort", "-episode_return")),
      w: () => this.change(this.asked.with("sort", "episode_return")),
    };
  }

  #makeList() {
    const Kind = this.asked.view === "grid" ? Grid : Table;
    this.list?.close();
    this.list = new Kind({ rows: this.rows, state: this, source: this.source });
    this.playAll.hidden = this.asked.view !== "grid";
    this.playAll.setAttribute("aria-pressed", "false");
    for (const button of this.views.children) button.setAttribute("aria-pressed", String(button.dataset.view === this.asked.view));
    this.holder.replaceChildren(this.list.element);
    this.list.window.setTotal(this.rows.total);
  }

  async #ask() {
    this.selected = -1;
    this.fresh.hidden = true;
    this.list.setColumns();
    this.list.window.toTop();
    this.plot.show();
    this.#askFacets();
    await this.rows.ask(this.question, this.plot.extraColumns);
  }

  async #askFacets() {
    this.#facetsStop.abort();
    this.#facetsStop = new AbortController();
    const { signal } = this.#facetsStop;
    try {
      const facets = await this.source.facets(this.question, { signal });
      if (!signal.aborted) this.filters.set(facets);
      return facets.total;
    } catch {
      return null; // the list says what is wrong
    }
  }

  #showRows() {
    const { rows } = this;
    this.#showCount();
    this.holder.querySelector(".notice")?.remove();
    this.list.element.hidden = false;
    if (rows.error || (rows.isKnown && !rows.total)) {
      this.list.element.hidden = true;
      this.holder.append(this.#empty());
    }
    this.list.window.setTotal(rows.total);
    this.plot.mark(rows.at(this.selected));
  }

  #empty() {
    const again = h("button", { type: "button", class: "button", onclick: () => this.#ask() }, "Try again");
    if (this.rows.error) return notice("The list cannot be shown", this.rows.error.message, again);
    if (this.isFiltered) {
      return notice("No episode matches", "Nothing answers to this search and these filters.",
        h("button", { type: "button", class: "button", onclick: () => this.clear() }, "Clear all filters"));
    }
    return notice("No episodes yet", "This folder holds no finished episode. They appear here as soon as they are recorded: wrap the environment in rollcam.RecordVideo and train.");
  }

  #showCount() {
    const all = this.live.n ?? this.source.gallery.n;
    const { total, isKnown } = this.rows;
    this.count.textContent = !isKnown ? "…" : this.isFiltered ? `${number(total)} of ${number(all)} episodes` : `${number(total)} episodes`;
  }

  #showPresets() {
    for (const button of this.presets.children) button.setAttribute("aria-pressed", String(button.dataset.sort === this.sort));
  }

  #showPicks() {
    this.tray.hidden = !picks.size;
    this.tray.replaceChildren(
      h("button", { type: "button", class: "button primary", onclick: () => picks.compare(), title: "Compare (c)" }, `Compare ${picks.size}`),
      iconButton("close", "Put all back", () => picks.clear()));
    this.list?.window.draw();
  }

  #showNotes() {
    const notes = this.source.gallery.notes ?? [];
    if (!notes.length) return;
    const list = h("details", { class: "notes" }, h("summary", {}, `${notes.length} ${notes.length === 1 ? "note" : "notes"} on the folders`), h("ul", {}, notes.map((text) => h("li", {}, text))));
    this.filters.element.append(list);
  }

  #typed() {
    clearTimeout(this.#typingTimer);
    this.#typingTimer = setTimeout(() => this.#search(), TYPING_MS);
  }

  #search() {
    clearTimeout(this.#typingTimer);
    if (this.search.value === this.asked.text) return;
    // One step back leads to before the search, not through its letters.
    this.change(this.asked.with("q", this.search.value), { replace: this.asked.text !== "" });
  }

  #searchKey(event) {
    if (event.key !== "Escape" && event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    event.stopPropagation();
    this.#search();
    this.search.blur();
    this.element.querySelector(".results").focus({ preventScroll: true });
    if (event.key !== "Escape" && this.selected < 0) this.#move(1);
  }

  #escape() {
    if (this.element.classList.contains("filters-open")) this.#toggleFilters();
    else if (this.isFiltered) this.clear();
  }

  #toggleFilters() {
    const isOpen = this.element.classList.toggle("filters-open");
    this.toFilters.setAttribute("aria-expanded", String(isOpen));
  }

  #setView(view) {
    this.change(this.asked.with("view", view === "grid" ? "grid" : null), { replace: true });
  }

  #togglePlayAll() {
    const plays = this.playAll.getAttribute("aria-pressed") !== "true";
    this.playAll.setAttribute("aria-pressed", String(plays));
    this.list.playAll(plays);
  }

  #move(n) {
    if (!this.rows.total) return;
    const isFirst = this.selected < 0 && Number.isFinite(n);
    const to = isFirst ? 0 : Math.max(0, Math.min(this.rows.total - 1, this.selected + n));
    this.select(to);
    this.list.window.reveal(to);
    const row = this.rows.at(to);
    if (row) announce(`${row.name}, ${captionOf(row)}`);
  }

  select(offset) {
    this.selected = offset;
    this.list.window.draw();
    this.plot.mark(this.rows.at(offset));
  }

  open(offset) {
    const row = this.rows.at(offset);
    if (row) go("watch", row.id, this.carried);
  }

  openId(id) {
    go("watch", id, this.carried);
  }

  /** There are new episodes. What somebody looks at does not move; at the top, untouched, it does. */
  #arrived() {
    clearTimeout(this.#lookTimer);
    this.#lookTimer = setTimeout(() => this.#lookAgain(), LOOK_AGAIN_MS / 4);
  }

  async #lookAgain() {
    if (!this.#isShown || !this.rows.isKnown) return;
    const total = await this.#askFacets();
    if (total === null) return;
    this.#showCount();
    this.plot.refresh();
    const isUntouched = this.list.scroller.scrollTop === 0 && this.selected < 0 && !this.holder.matches(":hover");
    if (isUntouched || !this.rows.total) {
      this.rows.refresh();
      return;
    }
    const n = total - this.rows.total;
    this.fresh.hidden = n === 0;
    this.fresh.textContent = n > 0 ? `${number(n)} new` : "List has changed";
    if (n > 0) announce(`${n} new episodes`);
  }

  #showFresh() {
    this.fresh.hidden = true;
    this.selected = -1;
    this.rows.refresh();
    this.list.window.toTop();
  }

  async #showOutliers() {
    const found = await this.plot.outlierIds();
    if (!found.length) {
      toast(`No return lies far from that of its time (${label(this.plot.x)})`);
      return;
    }
    this.change(found.reduce((asked, id) => asked.withChoice("episode_id", id, true), this.asked.cleared()));
  }

  #compareStages() {
    const params = this.question;
    params.set("stages", "9");
    params.set("x", this.plot.x);
    go("compare", "", params);
  }
}
