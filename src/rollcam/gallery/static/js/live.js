// What happens while the page is open: episodes that arrive, and those that are being recorded.

export class Live extends EventTarget {
  constructor(source) {
    super();
    this.growing = [];
    this.n = null;
    this.generation = source.gallery.generation;
    this.isLinked = source.isLive;
    this.stop = source.listen({
      hello: ({ generation, n }) => this.#changed(generation, n),
      change: ({ generation, n, rows }) => this.#changed(generation, n, rows),
      growing: ({ growing }) => {
        this.growing = Array.isArray(growing) ? growing : [];
        this.dispatchEvent(new Event("growing"));
      },
      link: (isLinked) => {
        if (isLinked === this.isLinked) return;
        this.isLinked = isLinked;
        this.dispatchEvent(new Event("growing"));
      },
    });
  }

  find(id) {
    return this.growing.find((one) => one.id === id);
  }

  #changed(generation, n) {
    this.n = n;
    if (generation === this.generation) return;
    this.generation = generation;
    this.dispatchEvent(new Event("change"));
  }
}
