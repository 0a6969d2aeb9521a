// The filters beside the list: choices with their counts, and ranges.

import { h } from "./dom.js";
import { label, number, plain } from "./format.js";

const CHOICES = ["env_id", "run_id", "mode", "status", "folder", "kind", "codec", "worker"];
const ENDINGS = [["terminated", "Terminated"], ["truncated", "Truncated"]];
const RANGES = ["episode_return", "episode_length", "iteration", "step_index", "seed", "duration_s"];
const SHOWN = 6;

export class Filters {
  #opened = new Set();
  #facets = null;

  constructor({ state }) {
    this.state = state;
    this.choices = h("div", { class: "choices" });
    this.ranges = h("div", { class: "ranges" }, RANGES.map((column) => this.#range(column)));
    this.clear = h("button", { type: "button", class: "button", onclick: () => state.clear() }, "Clear all");
    this.element = h("form", { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
      h("div", { class: "filters-head" }, h("h2", {}, "Filters"), this.clear), this.ranges, this.choices);
  }

  /** Show the answer of `facets.json`; what is chosen stands in the question. */
  set(facets) {
    this.#facets = facets;
    const held = document.activeElement?.closest?.(".choice")?.dataset.key;
    const groups = CHOICES.filter((column) => this.#isUseful(column)).map((column) => this.#group(column));
    const endings = ENDINGS.filter(([column]) => (facets.values[column] ?? []).length > 1 || this.#chosen(column).length);
    if (endings.length) groups.push(this.#endings(endings));
    this.choices.replaceChildren(...groups);
    if (held) this.choices.querySelector(`[data-key="${CSS.escape(held)}"] input`)?.focus();
    for (const column of RANGES) this.#fillRange(column);
    this.clear.hidden = !this.state.isFiltered;
  }

  #chosen(column) {
    return this.state.chosen(column);
  }

  #isUseful(column) {
    return (this.#facets.values[column] ?? []).length > 1 || this.#chosen(column).length > 0;
  }

  #group(column) {
    const values = this.#facets.values[column] ?? [];
    const isOpen = this.#opened.has(column);
    const rows = values.slice(0, isOpen ? values.length : SHOWN).map(([value, n]) => this.#choice(column, value, n));
    const rest = values.length - SHOWN;
    const more = rest > 0 ? h("button", {
      type: "button", class: "link", onclick: () => {
        this.#opened[isOpen ? "delete" : "add"](column);
        this.set(this.#facets);
      },
    }, isOpen ? "Fewer" : `${rest} more`) : null;
    return h("fieldset", {}, h("legend", {}, label(column)), rows, more);
  }

  #endings(endings) {
    return h("fieldset", {}, h("legend", {}, "Ending"), endings.map(([column, text]) => {
      const n = (this.#facets.values[column] ?? []).find(([value]) => value === true)?.[1] ?? 0;
      return this.#choice(column, true, n, text);
    }));
  }

  #choice(column, value, n, text = null) {
    const asked = value === null ? "" : String(value);
    const box = h("input", { type: "checkbox", checked: this.#chosen(column).includes(asked) });
    box.addEventListener("change", () => this.state.choose(column, asked, box.checked));
    const words = text ?? (value === null ? "none" : column === "run_id" ? `${plain(column, value)}` : plain(column, value));
    return h("label", { class: "choice", "data-key": `${column}=${asked}`, title: asked }, box,
      h("span", { class: "choice-text" }, words), h("span", { class: "count num" }, number(n)));
  }

  #range(column) {
    const field = (which) => h("input", {
      type: "text", inputMode: "decimal", class: "num", autocomplete: "off", spellcheck: false,
      "aria-label": `${label(column)} ${which === 0 ? "at least" : "at most"}`,
      onchange: () => this.#setRange(column),
      onkeydown: (event) => event.key === "Enter" && this.#setRange(column),
    });
    const fields = [field(0), field(1)];
    return Object.assign(h("fieldset", { class: "range", "data-column": column, hidden: true }, h("legend", {}, label(column)), fields), { fields });
  }

  #rangeOf(column) {
    return [...this.ranges.children].find((one) => one.dataset.column === column);
  }

  #fillRange(column) {
    const group = this.#rangeOf(column);
    const extent = this.#facets.ranges[column];
    const set = this.state.range(column) ?? ["", ""];
    group.hidden = (!extent || extent[0] === extent[1]) && !set.some(Boolean);
    group.fields.forEach((field, k) => {
      field.placeholder = extent ? number(extent[k], 3) : "";
      if (document.activeElement !== field) field.value = tidy(set[k]);
    });
  }

  #setRange(column) {
    const { fields } = this.#rangeOf(column);
    const bounds = fields.map((field) => field.value.trim().replace("−", "-").replace(/[\u2009 ]/g, ""));
    const isNumber = bounds.map((text) => text === "" || Number.isFinite(Number(text)));
    fields.forEach((field, k) => field.setCustomValidity(isNumber[k] ? "" : "a number is needed here, such as 200 or -1.5"));
    const wrong = fields.find((field) => !field.reportValidity());
    if (!wrong) this.state.setRange(column, ...bounds);
  }
}

/** A bound of the brush has more digits than anybody wants to read. */
const tidy = (text) => (text && text.length > 10 ? String(Number(Number(text).toPrecision(6))) : text);
