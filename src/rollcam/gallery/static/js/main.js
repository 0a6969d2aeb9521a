// Where the page begins: it asks what there is, and shows the place that the address names.

import { Compare } from "./compare.js";
import { h, notice } from "./dom.js";
import { Find } from "./find.js";
import { showHelp, startKeys } from "./keys.js";
import { Live } from "./live.js";
import { here, onPlace } from "./route.js";
import { openSource } from "./source.js";
import { Watch } from "./watch.js";

const root = document.getElementById("app");
const PLACES = { __proto__: null, watch: Watch, live: Watch, compare: Compare };

let source = null;
let live = null;
let find = null;
let other = null;

function show(place) {
  other?.close();
  other = null;
  document.getElementById("help").close();
  const Place = PLACES[place.view];
  if (!Place) {
    find ??= new Find({ source, live });
    if (!find.element.isConnected) root.replaceChildren(find.element);
    find.show(place.params);
    return;
  }
  if (find?.element.isConnected) find.hide();
  other = new Place({ source, place, live });
  root.replaceChildren(other.element);
  scrollTo(0, 0);
}

async function start() {
  try {
    source = await openSource();
  } catch (error) {
    const text = location.protocol === "file:"
      ? "A browser opens these files from a web server only: run `python -m http.server` in this folder, and open the address that it prints."
      : error.message;
    root.replaceChildren(notice("The gallery cannot be shown", text, h("button", { type: "button", class: "button", onclick: () => location.reload() }, "Try again")));
    return;
  }
  live = new Live(source);
  startKeys();
  document.addEventListener("help", showHelp);
  onPlace(show);
  show(here());
}

start();
