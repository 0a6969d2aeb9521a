// Where the page is, as its address says: `#/` (find), `#/watch/ID`, `#/live/ID`, `#/compare`, each
// with parameters. Behind the `#`, so that a host of plain files can answer every address.

const ASKED = ["q", "is", "in", "sort"];
const CARRIED = [...ASKED, "view", "x", "y"];

/** The place that the address names. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, id = ""] = path.split("/");
  return { view: view || "find", id: decoded(id), params: new URLSearchParams(query) };
}

/** An address may be typed by anybody. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a place. */
export function hrefOf(view, id = "", params = new URLSearchParams()) {
  const path = view === "find" ? "" : id ? `${view}/${encodeURIComponent(id)}` : view;
  const query = params.toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

/** Only the parameters that say which episodes, and in which order. */
export function questionOf(params) {
  return new URLSearchParams([...params].filter(([name]) => ASKED.includes(name)));
}

/** What a link from the list to an episode, and back, takes along. */
export function carriedOf(params) {
  return new URLSearchParams([...params].filter(([name]) => CARRIED.includes(name)));
}

const listeners = new Set();
let last = null;

/** Go to a place; `replace` leaves no step for the back button. */
export function go(view, id, params, { replace = false } = {}) {
  const href = hrefOf(view, id, params);
  if (href === (location.hash || "#/")) return;
  history[replace ? "replaceState" : "pushState"](null, "", href);
  tell();
}

/** Change the address without going anywhere: what it says is shown already. */
export function note(view, id, params) {
  history.replaceState(null, "", hrefOf(view, id, params));
  last = location.href;
}

/** Call `run(place)` whenever the address has changed. */
export function onPlace(run) {
  listeners.add(run);
}

function tell() {
  if (location.href === last) return;
  last = location.href;
  for (const run of listeners) run(here());
}

addEventListener("popstate", tell);
addEventListener("hashchange", tell);
