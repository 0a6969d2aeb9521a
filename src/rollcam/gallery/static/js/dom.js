// Elements are made by calls, never from markup: what stands in a sidecar stays text.

/** Make an element. `on…` are listeners, `class`/`data-…`/`aria-…` attributes, the rest properties. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name.includes("-") || name === "role" || name === "for" || name === "list") {
      element.setAttribute(name, value === true ? "true" : value);
    } else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const TAIL = 10;

/** A name of which the end is always seen: there stands the episode's number. */
export function nameInto(element, name) {
  const text = String(name);
  if (text.length <= TAIL * 1.5) element.replaceChildren(text);
  else {
    element.replaceChildren(h("span", { class: "name-head" }, text.slice(0, -TAIL)), h("span", { class: "name-tail" }, text.slice(-TAIL)));
  }
}

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: "M5 3.2v9.6l8-4.8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  back: "M10.5 3v10L4 8zM3 3h1.6v10H3z",
  forward: "M5.5 3v10L12 8zM11.4 3H13v10h-1.6z",
  loop: "M4 5h7v2.2L14 4.600 11 2v2H3v5h1zM12 11H5V8.800L2 11.400 5 14v-2h8V7h-1z",
  close: "M4 3 8 7l4-4 1 1-4 4 4 4-1 1-4-4-4 4-1-1 4-4-4-4z",
  table: "M2 3h12v2H2zm0 4h12v2H2zm0 4h12v2H2z",
  grid: "M2 2h5v5H2zm7 0h5v5H9zM2 9h5v5H2zm7 0h5v5H9z",
  filter: "M2 3h12L9.500 8.500V13l-3-1.500v-3z",
};

/** A small picture that says nothing to a screen reader; the button around it has a name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with a picture; `label` is its name and its hint. */
export function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", class: "icon-button", title: label, "aria-label": label, onclick, ...props }, icon(name));
}

/** What stands where nothing can be shown: what happened, and what to do. */
export function notice(title, text, ...more) {
  const sentence = text.charAt(0).toUpperCase() + text.slice(1);
  return h("div", { class: "notice", role: "status" }, h("h2", {}, title), h("p", {}, sentence), ...more);
}

/** Tell a screen reader, and nobody else. */
export function announce(text) {
  const region = document.getElementById("announcer");
  if (region) region.textContent = text;
}

let toastTimer = 0;

/** A line at the bottom that goes by itself. */
export function toast(text) {
  const line = document.getElementById("toast");
  line.textContent = text;
  line.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => line.classList.remove("shown"), 3000);
}

/** Prepare a canvas for drawing in CSS pixels; returns its context and its size. */
export function sharp(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { pen, width, height };
}

/** The value of a CSS custom property, as the theme has it now. */
export const themed = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Call `run` when the system goes from light to dark or back; returns how to stop. */
export function onTheme(run) {
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", run);
  return () => query.removeEventListener("change", run);
}
