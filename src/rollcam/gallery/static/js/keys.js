// One listener for the keyboard: each place says which keys it knows, and what for.

import { h } from "./dom.js";

let bound = {};

/** Take these keys (`"shift+ArrowLeft"`, `"?"`, `"a"`) in place of those of the last place. */
export function useKeys(keys) {
  bound = keys;
}

function nameOf(event) {
  const isLetter = event.key.length === 1;
  return `${event.shiftKey && !isLetter ? "shift+" : ""}${event.key}`;
}

/** Whether the key belongs to what has the focus: a field that is typed in, a list that is chosen from. */
function isTaken(event) {
  const at = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  if (!(at instanceof Element)) return false;
  if (at.matches("textarea, select, input:not([type=checkbox], [type=range])")) {
    if (event.key === "Escape") at.blur(); // the next one is the page's
    return true;
  }
  if (document.querySelector("dialog[open]")) return event.key !== "?"; // it knows Escape itself
  const isPressed = event.key === " " || event.key === "Enter";
  if (isPressed && at.matches("button, a, summary, input, label")) return true;
  return at.matches("input[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key);
}

export function startKeys() {
  addEventListener("keydown", (event) => {
    const run = Object.hasOwn(bound, nameOf(event)) ? bound[nameOf(event)] : shared[nameOf(event)];
    if (!run || isTaken(event)) return;
    if (run(event) !== false) event.preventDefault();
  });
}

const shared = Object.assign(Object.create(null), { "?": () => showHelp() });

const HELP = [
  ["Everywhere", [["/", "search"], ["?", "this help"], ["Esc", "back, or close"]]],
  ["List", [
    ["↑ ↓ ← →", "move"], ["PgUp PgDn", "move a page"], ["Home End", "first, last"], ["Enter", "watch"],
    ["x", "pick for comparing"], ["c", "compare what is picked"], ["g", "table or grid"], ["b / w", "best / worst first"],
  ]],
  ["Film", [
    ["Space", "play, pause"], [", and .", "one step back, one step on"], ["← →", "the same; with Shift ten steps"],
    ["Home, End", "first step, last step"], ["< and >", "slower, faster"], ["l", "loop"],
    ["[ and ]", "next worse, next better episode"], ["{ and }", "the one before, the one after"],
    ["y", "copy a link to this step"], ["f", "newest step of a live film"],
  ]],
];

/** Open or close the table of keys. */
export function showHelp() {
  const dialog = document.getElementById("help");
  if (dialog.open) {
    dialog.close();
    return;
  }
  if (!dialog.childElementCount) {
    dialog.append(
      h("h2", { id: "help-title" }, "Keys"),
      ...HELP.map(([title, rows]) => h("section", {}, h("h3", {}, title),
        h("dl", {}, rows.flatMap(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])))),
      h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Close"),
    );
  }
  dialog.showModal();
}
