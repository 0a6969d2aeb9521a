// What the page knows of the episodes comes from here: from the server, or from exported files.

import { StaticSource } from "./static_source.js";

export class GalleryError extends Error {
  constructor(text, status = 0, body = {}) {
    super(text);
    this.status = status;
    this.body = body;
  }
}

export const address = (path) => new URL(path, document.baseURI).href;

/** Fetch JSON. Raises a GalleryError whose words can be shown. */
export async function getJson(path, { signal } = {}) {
  const answer = await reach(path, { signal });
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new GalleryError(`the answer to ${path.split("?")[0]} cannot be read`);
  }
}

/** Fetch anything. Raises a GalleryError whose words can be shown. */
export async function reach(path, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new GalleryError("the gallery does not answer; is `rollcam serve` still running?");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new GalleryError(String(body.error ?? `error ${answer.status}`), answer.status, body);
}

/** Look at what is there, and return the source that suits it. */
export async function openSource() {
  const gallery = await getJson("api/gallery.json");
  return gallery.is_static ? new StaticSource(gallery, getJson) : new ServerSource(gallery);
}

/** A row of a list as an object. */
export function asRow(columns, values) {
  const row = Object.create(null);
  columns.forEach((column, k) => (row[column] = values[k]));
  return row;
}

class ServerSource {
  constructor(gallery) {
    this.gallery = gallery;
    this.isLive = true;
  }

  /** `{generation, total, offset, rows}`; `more` names columns beyond the usual. */
  async list(question, offset, limit, { more = [], signal } = {}) {
    const params = new URLSearchParams([...question, ["offset", offset], ["limit", limit]]);
    if (more.length) params.append("columns", more.join(","));
    const answer = await getJson(`api/list.json?${params}`, { signal });
    return { ...answer, rows: answer.rows.map((values) => asRow(answer.columns, values)) };
  }

  points(question, x, y, { signal } = {}) {
    return getJson(`api/points.json?${new URLSearchParams([...question, ["x", x], ["y", y]])}`, { signal });
  }

  facets(question, { signal } = {}) {
    return getJson(`api/facets.json?${question}`, { signal });
  }

  facts(id, { signal } = {}) {
    return getJson(`api/e/${encodeURIComponent(id)}/facts.json`, { signal });
  }

  async neighbours(id, question, { signal } = {}) {
    const found = await getJson(`api/e/${encodeURIComponent(id)}/neighbours.json?${question}`, { signal });
    const rows = Object.entries(found).map(([way, values]) =>
      [way, values && asRow(this.gallery.columns, values)]);
    return Object.fromEntries(rows);
  }

  async growing() {
    return (await getJson("api/live.json")).growing;
  }

  /**
   * Call `on.hello`, `on.change`, `on.growing`, `on.deliveries` as things happen; returns how to stop.
   *
   * Only while the page is seen: a browser opens six connections to one server, for all tabs together,
   * and a seventh tab would wait for ever. Whoever comes back is told by `hello` where things stand.
   */
  listen(on) {
    let events = null;
    const open = () => {
      if (!events && !document.hidden) events = heard(on);
    };
    const close = () => {
      events?.close();
      events = null;
    };
    const look = () => (document.hidden ? close() : open());
    document.addEventListener("visibilitychange", look);
    addEventListener("pagehide", close);
    addEventListener("pageshow", open);
    open();
    return () => {
      document.removeEventListener("visibilitychange", look);
      removeEventListener("pagehide", close);
      removeEventListener("pageshow", open);
      close();
    };
  }
}

function heard(on) {
  const events = new EventSource(address("api/events"));
  for (const name of ["hello", "change", "growing", "deliveries"]) {
    events.addEventListener(name, (event) => {
      let told;
      try {
        told = JSON.parse(event.data);
      } catch {
        return;
      }
      on[name]?.(told);
    });
  }
  events.addEventListener("open", () => on.link?.(true));
  events.addEventListener("error", () => on.link?.(false));
  return events;
}
