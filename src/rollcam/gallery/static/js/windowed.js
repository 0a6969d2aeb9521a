// A list of any length of which only what is seen is in the page: rows of one height, one or more
// items to a row. Elements are used again.

const OVERSCAN = 3;
const MAX_HEIGHT = 16_000_000; // browsers take no taller element; beyond, scrolling is scaled

export class Windowed {
  #pool = [];
  #frame = 0;
  #first = 0;

  /**
   * @param make Makes an element for an item.
   * @param fill `fill(element, offset)` puts an item into it.
   */
  constructor(scroller, { make, fill, rowHeight, columns = () => 1 }) {
    Object.assign(this, { scroller, make, fill, rowHeight, columnsOf: columns });
    this.total = 0;
    this.body = document.createElement("div");
    this.body.className = "window-body";
    this.body.setAttribute("role", "presentation");
    scroller.windowed = this; // for those who measure it
    this.scroller.append(this.body);
    this.onScroll = () => this.later();
    this.scroller.addEventListener("scroll", this.onScroll, { passive: true });
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.scroller);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.#frame);
    this.scroller.removeEventListener("scroll", this.onScroll);
    this.body.remove();
  }

  setTotal(total) {
    this.total = total;
    this.layout();
  }

  get columns() {
    return Math.max(1, this.columnsOf());
  }

  get nRows() {
    return Math.ceil(this.total / this.columns);
  }

  /** Items that fit the height. */
  get pageSize() {
    return Math.max(1, Math.floor(this.scroller.clientHeight / this.rowHeight - 1)) * this.columns;
  }

  /** The first item that is seen. */
  get top() {
    return Math.floor(this.#virtualTop() / this.rowHeight) * this.columns;
  }

  layout() {
    this.body.style.height = `${Math.min(this.nRows * this.rowHeight, MAX_HEIGHT)}px`;
    this.draw();
  }

  later() {
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  /** Bring an item into view. */
  reveal(offset) {
    const row = Math.floor(offset / this.columns);
    const top = row * this.rowHeight, height = this.scroller.clientHeight;
    const seen = this.#virtualTop();
    if (top < seen) this.#scrollTo(top);
    else if (top + this.rowHeight > seen + height) this.#scrollTo(top + this.rowHeight - height);
    this.draw();
  }

  toTop() {
    this.scroller.scrollTop = 0;
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const { columns, rowHeight } = this;
    const height = this.scroller.clientHeight;
    if (!height) return;
    const top = this.#virtualTop();
    const firstRow = Math.max(0, Math.floor(top / rowHeight) - OVERSCAN);
    const lastRow = Math.min(this.nRows, Math.ceil((top + height) / rowHeight) + OVERSCAN);
    this.#first = firstRow * columns;
    const n = Math.max(0, Math.min(lastRow * columns, this.total) - this.#first);
    // The shift is nothing until the list is taller than an element can be.
    const shift = this.scroller.scrollTop - top;
    this.#grow(n);
    // An item keeps its element while both are in view, so that only what comes in is drawn anew.
    for (const element of this.#pool) {
      if (element.offset < this.#first || element.offset >= this.#first + n) this.#hide(element);
    }
    for (let offset = this.#first; offset < this.#first + n; offset++) {
      const element = this.#pool[offset % this.#pool.length];
      if (element.hidden) element.hidden = false;
      element.offset = offset;
      this.#place(element, offset, columns, shift);
      this.fill(element, offset);
    }
  }

  #place(element, offset, columns, shift) {
    const transform = `translateY(${Math.floor(offset / columns) * this.rowHeight + shift}px)`;
    if (element.placed === transform && element.among === columns) return;
    element.placed = transform;
    element.among = columns;
    element.style.transform = transform;
    element.style.left = `${((offset % columns) / columns) * 100}%`;
    element.style.width = `${100 / columns}%`;
  }

  #hide(element) {
    if (element.hidden) return;
    element.hidden = true;
    element.classList.remove("selected");
  }

  #grow(n) {
    while (this.#pool.length < n) {
      const element = this.make();
      this.#pool.push(element);
      this.body.append(element);
    }
  }

  #scale() {
    const height = this.scroller.clientHeight;
    const virtual = this.nRows * this.rowHeight - height;
    const real = Math.min(this.nRows * this.rowHeight, MAX_HEIGHT) - height;
    return virtual > 0 && real > 0 ? virtual / real : 1;
  }

  #virtualTop() {
    return this.scroller.scrollTop * this.#scale();
  }

  #scrollTo(top) {
    this.scroller.scrollTop = top / this.#scale();
  }
}
