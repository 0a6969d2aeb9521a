// The episodes that were picked for comparing; they stay while the page goes from place to place.

import { toast } from "./dom.js";
import { go } from "./route.js";

export const MAX_PICKS = 12;

class Picks extends EventTarget {
  #ids = new Set();

  get size() {
    return this.#ids.size;
  }

  has(id) {
    return this.#ids.has(id);
  }

  toggle(id, isPicked = !this.#ids.has(id)) {
    if (isPicked && this.#ids.size >= MAX_PICKS && !this.#ids.has(id)) {
      toast(`${MAX_PICKS} episodes can be compared at once; put one back first`);
    } else if (isPicked) {
      this.#ids.add(id);
    } else {
      this.#ids.delete(id);
    }
    this.dispatchEvent(new Event("change"));
  }

  clear() {
    this.#ids.clear();
    this.dispatchEvent(new Event("change"));
  }

  compare() {
    if (!this.#ids.size) {
      toast("Pick episodes first: the box in front of each, or the key x");
      return;
    }
    go("compare", "", new URLSearchParams([...this.#ids].map((id) => ["id", id])));
  }
}

export const picks = new Picks();
