// The rows of a list that may be long: fetched page by page, where they are looked at.

const PAGE = 200;
const MAX_PAGES = 60;

export class Rows extends EventTarget {
  #pages = new Map();
  #waiting = new Set();
  #stop = new AbortController();
  #generation = null;

  constructor(source) {
    super();
    this.source = source;
    this.question = new URLSearchParams();
    this.more = [];
    this.total = 0;
    this.error = null;
    this.isKnown = false;
    this.old = null;
  }

  /** Ask another question; what is here belongs to the old one. */
  async ask(question, more = []) {
    this.question = question;
    this.more = more;
    this.#forget();
    this.old = null;
    this.isKnown = false;
    await this.#fetch(0);
  }

  /** Ask the same again: there are new episodes. Old rows stay until the new ones are here. */
  async refresh(offset = 0) {
    // What an earlier refresh waits for may not be here yet: then its old rows are the ones to show.
    const before = this.#pages.size || !this.old ? this.#pages : this.old;
    this.#forget();
    this.old = before;
    await this.#fetch(Math.floor(offset / PAGE));
    if (this.old === before && this.#pages.size) this.old = null;
  }

  /** The row at an offset, or null while it is on its way. */
  at(offset) {
    if (offset < 0) return null;
    const k = Math.floor(offset / PAGE);
    const page = this.#pages.get(k);
    if (page) return page[offset - k * PAGE] ?? null;
    if (offset < this.total) this.#fetch(k);
    return this.old?.get(k)?.[offset - k * PAGE] ?? null;
  }

  /** The offset of an episode among the rows that are here, or -1. */
  offsetOf(id) {
    for (const [k, page] of this.#pages) {
      const n = page.findIndex((row) => row.id === id);
      if (n >= 0) return k * PAGE + n;
    }
    return -1;
  }

  close() {
    this.#stop.abort();
  }

  #forget() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#pages = new Map();
    this.#waiting.clear();
    this.#generation = null;
    this.error = null;
  }

  async #fetch(k) {
    if (this.#waiting.has(k) || this.#pages.has(k)) return;
    this.#waiting.add(k);
    const { signal } = this.#stop;
    try {
      const answer = await this.source.list(this.question, k * PAGE, PAGE, { more: this.more, signal });
      if (signal.aborted) return;
      this.#take(k, answer);
    } catch (error) {
      if (signal.aborted) return;
      this.error = error;
      this.isKnown = true;
      this.dispatchEvent(new Event("rows"));
    } finally {
      if (!signal.aborted) this.#waiting.delete(k);
    }
  }

  #take(k, { generation, total, rows }) {
    // Pages of two states of the folder do not fit together.
    if (this.#generation !== null && generation !== this.#generation) this.#pages.clear();
    this.#generation = generation;
    this.#pages.delete(k);
    this.#pages.set(k, rows);
    if (this.#pages.size > MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value);
    this.total = total;
    this.isKnown = true;
    this.error = null;
    this.dispatchEvent(new Event("rows"));
  }
}
