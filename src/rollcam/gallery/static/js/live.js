// What happens while the page is open: episodes that arrive, are being recorded, or are delivered.

export class Live extends EventTarget {
  constructor(source) {
    super();
    this.growing = [];
    this.n = null;
    this.generation = source.gallery.generation;
    this.deliveries = source.gallery.deliveries;
    this.isLinked = source.isLive;
    this.stop = source.listen({
      hello: ({ generation, n, deliveries }) => {
        this.#changed(generation, n);
        this.#delivered(deliveries);
      },
      change: ({ generation, n, rows }) => this.#changed(generation, n, rows),
      deliveries: ({ deliveries }) => this.#delivered(deliveries),
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

  #delivered(deliveries) {
    if (deliveries === this.deliveries) return;
    this.deliveries = deliveries;
    this.dispatchEvent(new Event("deliveries"));
  }

  #changed(generation, n) {
    this.n = n;
    if (generation === this.generation) return;
    this.generation = generation;
    this.dispatchEvent(new Event("change"));
  }
}
