// Names, in the bar, the episodes that are being recorded now.

import { h } from "./dom.js";
import { hrefOf } from "./route.js";

const SHOWN = 3;

export class LiveStrip {
  constructor(live) {
    this.live = live;
    this.element = h("nav", { class: "live-strip", "aria-label": "Being recorded", hidden: true });
    live.addEventListener("growing", () => this.draw());
    this.draw();
  }

  draw() {
    const { growing, isLinked } = this.live;
    const links = growing.slice(0, SHOWN).map((one) => h("a", { class: "live-chip", href: hrefOf("live", one.id), "data-id": one.id },
      h("span", { class: "badge live" }, "Live"), h("span", { class: "live-name" }, nameOf(one))));
    const rest = growing.length - SHOWN;
    this.element.hidden = !growing.length && isLinked;
    this.element.replaceChildren(...links,
      rest > 0 ? h("span", { class: "quiet" }, `+ ${rest}`) : "",
      isLinked ? "" : h("span", { class: "quiet" }, "The gallery does not answer"));
  }
}

function nameOf(one) {
  const what = one.env_id ?? one.name ?? "episode";
  const worker = one.worker ?? null;
  const parts = [what, Number.isInteger(one.episode_index) ? `episode ${one.episode_index}` : null, worker];
  return parts.filter(Boolean).join(" · ");
}
