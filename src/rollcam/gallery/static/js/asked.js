// What the list is asked for: the filters, the search and the order that stand in the address.

const NEWEST = "-started_at";
const SMALLEST_FIRST = new Set(["name", "env_id", "mode", "run_id", "worker", "folder", "seed"]);

export class Asked {
  constructor(params = new URLSearchParams()) {
    this.params = new URLSearchParams(params);
  }

  /** Only what the server is asked. */
  get question() {
    return new URLSearchParams([...this.params].filter(([name]) => ["q", "is", "in", "sort"].includes(name)));
  }

  get sort() {
    return this.params.get("sort") || NEWEST;
  }

  get text() {
    return this.params.get("q") ?? "";
  }

  get view() {
    return this.params.get("view") === "grid" ? "grid" : "table";
  }

  get isFiltered() {
    return ["q", "is", "in"].some((name) => this.params.has(name));
  }

  /** The choices made in a column. */
  chosen(column) {
    return this.params.getAll("is").filter((one) => one.startsWith(`${column}=`)).map((one) => one.slice(column.length + 1));
  }

  /** `[low, high]` as text, or null. */
  range(column) {
    const found = this.params.getAll("in").find((one) => one.startsWith(`${column}=`));
    return found ? found.slice(column.length + 1).split("..") : null;
  }

  #copy() {
    return new Asked(this.params);
  }

  with(name, value) {
    const other = this.#copy();
    if (value === null || value === "") other.params.delete(name);
    else other.params.set(name, value);
    return other;
  }

  withChoice(column, value, isChosen) {
    const other = this.#copy();
    const kept = this.params.getAll("is").filter((one) => one !== `${column}=${value}`);
    other.params.delete("is");
    for (const one of isChosen ? [...kept, `${column}=${value}`] : kept) other.params.append("is", one);
    return other;
  }

  withRange(column, low, high) {
    const other = this.#copy();
    const kept = this.params.getAll("in").filter((one) => !one.startsWith(`${column}=`));
    other.params.delete("in");
    for (const one of low || high ? [...kept, `${column}=${low}..${high}`] : kept) other.params.append("in", one);
    return other;
  }

  /** Sort by a column; by the same once more: the other way round. */
  sortedBy(column) {
    const first = SMALLEST_FIRST.has(column) ? column : `-${column}`;
    const second = first === column ? `-${column}` : column;
    return this.with("sort", this.sort === first ? second : first);
  }

  cleared() {
    const other = this.#copy();
    for (const name of ["q", "is", "in"]) other.params.delete(name);
    return other;
  }

  /** The question without the ranges of some columns. */
  withoutRanges(...columns) {
    return columns.reduce((asked, column) => asked.withRange(column, "", ""), this).question;
  }
}
