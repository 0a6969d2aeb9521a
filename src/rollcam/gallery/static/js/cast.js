// Asciicasts, versions 1 to 3: read into frames, and put on a screen one frame at a time.

import { Terminal } from "./terminal.js";

// How Rollcam begins each of its frames, so that none depends on the one before.
const CLEAR = "\x1b[0m\x1b[2J\x1b[H";

/**
 * Read a cast, finished or still growing (half a line at the end is left for later).
 * @returns {{width, height, frames: {at: number, data: string}[], duration: number}}
 */
export function parseCast(text) {
  const first = text.indexOf("\n");
  let head = tryJson(first < 0 ? text : text.slice(0, first));
  if (!isObject(head)) head = tryJson(text);
  if (!isObject(head)) throw new Error("this file is no asciicast");
  const size = head.version === 3 && isObject(head.term)
    ? { width: head.term.cols, height: head.term.rows }
    : head;
  const events = head.version === 1
    ? relative((Array.isArray(head.stdout) ? head.stdout : []).map((e) => [e?.[0], "o", e?.[1]]))
    : lineEvents(text.slice(first + 1), head.version === 3);
  return { ...sized(size), ...framed(events) };
}

/** Frames from `[seconds, code, data]`; an empty one at the end only holds the last frame. */
function framed(events) {
  const frames = [];
  let duration = 0;
  for (const [at, code, data] of events) {
    duration = Math.max(duration, at);
    if (code === "o" && data !== "") frames.push({ at, data });
  }
  return { frames, duration };
}

function lineEvents(text, isRelative) {
  const events = text.split("\n").map(tryJson).filter((event) =>
    Array.isArray(event) && Number.isFinite(event[0]) && typeof event[2] === "string");
  return isRelative ? relative(events) : events;
}

function relative(events) {
  let now = 0;
  return events
    .filter((event) => Number.isFinite(event[0]) && typeof event[2] === "string")
    .map(([delay, code, data]) => [(now += delay), code, data]);
}

const sized = ({ width, height }) => ({
  width: Number.isInteger(width) && width > 0 ? Math.min(width, 9999) : 80,
  height: Number.isInteger(height) && height > 0 ? Math.min(height, 9999) : 24,
});

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function tryJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The screens of a cast, in any order; going back replays from the last cleared screen. */
export class Screens {
  constructor(cast) {
    this.terminal = new Terminal(cast.width, cast.height);
    this.frames = cast.frames;
    this.shown = -1;
  }

  /** Bring the terminal to frame `k` and return it. */
  at(k) {
    let start = k;
    while (start > 0 && start !== this.shown + 1 && !this.#isFresh(start)) start--;
    if (k === this.shown) return this.terminal;
    if (start !== this.shown + 1 || this.#isFresh(start)) this.terminal.reset();
    for (let n = start; n <= k; n++) this.terminal.write(this.frames[n].data);
    this.shown = k;
    return this.terminal;
  }

  #isFresh(k) {
    return this.frames[k].data.startsWith(CLEAR);
  }
}

/** Draw a screen into a `<pre>`: runs of equal style become one `<span>`. */
export function drawScreen(pre, terminal) {
  const lines = terminal.lines.map((line) => {
    const row = document.createElement("div");
    row.className = "tty-line";
    for (const { text, style, wide } of runs(line)) row.append(drawRun(text, style, wide));
    return row;
  });
  pre.replaceChildren(...lines);
}

function* runs(line) {
  let run = null;
  for (let x = 0; x < line.length; x++) {
    const { char, style } = line[x];
    if (char === "") continue;
    const wide = line[x + 1]?.char === "";
    if (run && !wide && !run.wide && sameStyle(run.style, style)) run.text += char;
    else {
      if (run) yield run;
      run = { text: char, style, wide };
    }
  }
  if (run) yield run;
}

const sameStyle = (a, b) => a === b || Object.keys(a).every((key) => a[key] === b[key]);

function drawRun(text, style, wide) {
  let { fg, bg } = style;
  const isPlain = fg === null && bg === null && !style.reverse;
  const isUnadorned = !style.bold && !style.italics && !style.underscore && !style.strikethrough;
  if (isPlain && isUnadorned && !wide) return document.createTextNode(text);
  const span = document.createElement("span");
  span.textContent = text;
  const names = ["bold", "italics", "underscore", "strikethrough"].filter((name) => style[name]);
  if (wide) names.push("wide");
  if (style.bold && Number.isInteger(fg) && fg < 8) fg += 8;
  span.className = names.map((name) => `tty-${name}`).join(" ");
  const front = colour(fg, "--tty-fg"), back = colour(bg, "--tty-bg");
  if (style.reverse) {
    span.style.color = back;
    span.style.backgroundColor = front;
  } else {
    if (fg !== null) span.style.color = front;
    if (bg !== null) span.style.backgroundColor = back;
  }
  return span;
}

const colour = (value, none) =>
  value === null ? `var(${none})` : Number.isInteger(value) ? `var(--tty-${value})` : `#${value}`;
