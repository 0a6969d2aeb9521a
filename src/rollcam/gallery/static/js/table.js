// The episodes as a table: one line each, a heading that sorts.

import { h, nameInto } from "./dom.js";
import { statusBadge } from "./facts.js";
import { label, plain } from "./format.js";
import { hrefOf } from "./route.js";
import { Windowed } from "./windowed.js";

const ROW_HEIGHT = 30;
const COLUMNS = [
  "name", "env_id", "episode_return", "episode_length", "iteration", "step_index", "mode", "status",
  "seed", "duration_s", "started_at", "run_id",
];
const MEDIUM = COLUMNS.filter((column) => column !== "duration_s" && column !== "run_id");
const NARROW = ["name", "episode_return", "episode_length"];
const NUMBERS = new Set(["episode_return", "episode_length", "iteration", "step_index", "seed", "duration_s", "size_bytes", "n_frames"]);

export class Table {
  constructor({ rows, state }) {
    this.rows = rows;
    this.state = state;
    this.head = h("div", { class: "t-head", role: "row" });
    this.scroller = h("div", { class: "t-scroll", role: "rowgroup", tabIndex: 0 });
    this.element = h("div", {
      class: "table", role: "grid", "aria-label": "Episodes",
    }, h("div", { role: "rowgroup", class: "t-headgroup" }, this.head), this.scroller);
    this.window = new Windowed(this.scroller, {
      make: () => this.#make(), fill: (element, offset) => this.#fill(element, offset), rowHeight: ROW_HEIGHT,
    });
    this.widths = [matchMedia("(max-width: 720px)"), matchMedia("(max-width: 1440px)")];
    this.onWidth = () => this.setColumns();
    for (const width of this.widths) width.addEventListener("change", this.onWidth);
    this.setColumns();
  }

  close() {
    for (const width of this.widths) width.removeEventListener("change", this.onWidth);
    this.window.close();
  }

  /** Columns differ by the room there is, and by what the list is sorted by. */
  setColumns() {
    const sorted = this.state.sort.replace(/^-/, "");
    const [narrow, medium] = this.widths.map((width) => width.matches);
    const usual = narrow ? NARROW : medium ? MEDIUM : COLUMNS;
    const isShown = usual.includes(sorted) || (narrow && sorted === "started_at");
    this.columns = isShown ? usual : [...usual.slice(0, 3), sorted, ...usual.slice(3)];
    this.element.dataset.n = String(this.columns.length);
    this.element.style.setProperty("--columns", this.columns.map(widthOf).join(" "));
    this.drawHead();
    for (const element of this.window.body.children) {
      element.cells = null;
      element.replaceChildren();
    }
    this.window.draw();
  }

  drawHead() {
    const sorted = this.state.sort.replace(/^-/, "");
    const isDown = this.state.sort.startsWith("-");
    const cells = this.columns.map((column) => h("div", {
      class: NUMBERS.has(column) ? "t-cell num" : "t-cell", role: "columnheader",
      "aria-sort": column !== sorted ? "none" : isDown ? "descending" : "ascending",
    }, h("button", { type: "button", class: "sort", "data-column": column, title: `Sort by ${label(column)}`, onclick: () => this.state.sortBy(column) },
      label(column), h("span", { class: "arrow", "aria-hidden": "true" }, column !== sorted ? "" : isDown ? "▾" : "▴"))));
    this.head.replaceChildren(h("div", { class: "t-cell pick", role: "columnheader" }, h("span", { class: "unseen" }, "Pick")), ...cells);
  }

  #make() {
    return h("div", { class: "t-row", role: "row" });
  }

  #fill(element, offset) {
    const row = this.rows.at(offset);
    element.cells ??= this.#cells(element);
    element.setAttribute("aria-rowindex", String(offset + 2));
    element.classList.toggle("selected", offset === this.state.selected);
    element.setAttribute("aria-selected", String(offset === this.state.selected));
    element.classList.toggle("waiting", row === null);
    element.id = `row-${offset}`;
    const { box, link, rest } = element.cells;
    const isPicked = row !== null && this.state.picked.has(row.id);
    if (box.checked !== isPicked) box.checked = isPicked;
    if (element.row === row && row !== null) return;
    element.row = row;
    element.dataset.id = row?.id ?? "";
    box.disabled = row === null;
    nameInto(link, row?.name ?? "");
    link.title = row?.name ?? "";
    box.setAttribute("aria-label", `Pick ${row?.name ?? ""}`);
    if (row) link.href = hrefOf("watch", row.id, this.state.carried);
    for (const [column, cell] of rest) fillCell(cell, column, row);
  }

  #cells(element) {
    const box = h("input", { type: "checkbox", tabIndex: -1 });
    box.addEventListener("change", () => this.state.pick(element.row, box.checked));
    const link = h("a", { class: "row-link", tabIndex: -1 });
    const rest = this.columns.slice(1).map((column) => [column, h("div", {
      class: NUMBERS.has(column) ? "t-cell num" : "t-cell", role: "gridcell", "data-column": column,
    })]);
    element.replaceChildren(h("div", { class: "t-cell pick", role: "gridcell" }, box),
      h("div", { class: "t-cell", role: "gridcell", "data-column": "name" }, link), ...rest.map(([, cell]) => cell));
    element.onclick = (event) => {
      if (event.target !== box) this.state.select(element.offset);
    };
    element.ondblclick = () => this.state.open(element.offset);
    return { box, link, rest };
  }
}

function fillCell(cell, column, row) {
  const value = row?.[column];
  if (column === "status" && value && value !== "complete") cell.replaceChildren(statusBadge(value));
  else cell.textContent = row ? plain(column, value) : "";
  cell.title = column === "run_id" ? String(value ?? "") : "";
}

function widthOf(column) {
  if (column === "name") return "minmax(140px, 2.2fr)";
  if (column === "env_id") return "minmax(90px, 1.2fr)";
  if (column === "started_at" || column === "ended_at") return "156px";
  if (column === "status") return "116px";
  if (NUMBERS.has(column) || column === "mode") return "minmax(68px, 0.6fr)";
  return "minmax(80px, 0.8fr)";
}
