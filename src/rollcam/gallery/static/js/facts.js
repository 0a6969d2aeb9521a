// The facts of an episode: how it ended, where the trainer stood, where its film went.

import { h } from "./dom.js";
import { bytes, label, moment, number, plain, seconds } from "./format.js";

const MAX_TEXT = 2000;
const MAX_ROWS = 300;

/** The panel beside a film. `facts` is the answer of `facts.json`. */
export function factsPanel({ sidecar, media, deliveries }) {
  return h("aside", { class: "facts", "aria-label": "Facts" },
    outcome(sidecar),
    section("Episode", pairs([
      ["Env", sidecar.env_id], ["Mode", sidecar.mode], ["Kind", sidecar.kind === "clip" ? "clip" : null],
      ["Seed", sidecar.seed === null || sidecar.seed === undefined ? null : String(sidecar.seed)],
      ["Episode", sidecar.episode_index], ["Env step", sidecar.step_index],
      ["Started", moment(sidecar.started_at)], ["Ended", sidecar.ended_at && moment(sidecar.ended_at)],
      ["Run", sidecar.run_id], ["Writer", writerText(sidecar.writer)],
    ])),
    contexts(sidecar.context_at_start ?? {}, sidecar.context_at_end ?? {}),
    section("Last info", pairs(scalars(sidecar.final_info))),
    section("Your facts", pairs(scalars(sidecar.metadata))),
    deliveriesPart(deliveries ?? []),
    section("Film", pairs([
      ["File", media?.name], ["Size", media && bytes(media.size_bytes)], ["Codec", sidecar.codec],
      ["Picture", sidecar.width && `${sidecar.width} × ${sidecar.height}${sidecar.codec === "asciicast" ? " cells" : ""}`],
      ["Rate", sidecar.fps && `${number(sidecar.fps)} frames/s`],
      ["Frames", sidecar.n_frames], ["Dropped", sidecar.n_dropped || null],
      ["Duration", sidecar.duration_s && seconds(sidecar.duration_s)], ["Id", sidecar.episode_id],
    ])),
    sidecar.env_spec
      ? h("details", { class: "raw" }, h("summary", {}, "Env spec"), h("pre", {}, cut(JSON.stringify(sidecar.env_spec, null, 1))))
      : null,
  );
}

function outcome(sidecar) {
  const ending = sidecar.terminated ? "terminated" : sidecar.truncated ? "truncated" : null;
  return h("section", { class: "outcome" },
    h("dl", { class: "figures" },
      figure("Return", number(sidecar.episode_return)),
      figure("Steps", number(sidecar.episode_length)),
      figure("Ended", ending ?? "–")),
    sidecar.status === "complete" ? null : h("p", { class: "badge-line" }, statusBadge(sidecar.status)),
    sidecar.reason ? h("p", { class: "reason" }, cut(String(sidecar.reason))) : null);
}

const figure = (name, value) => h("div", {}, h("dt", {}, name), h("dd", { class: "num" }, value));

export const statusBadge = (status) =>
  h("span", { class: `badge status-${/^[a-z_]+$/.test(status) ? status : "odd"}` }, plain("status", status));

function section(title, content) {
  return content ? h("section", {}, h("h3", {}, title), content) : null;
}

function pairs(rows) {
  const told = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (!told.length) return null;
  const shown = told.slice(0, MAX_ROWS).flatMap(([name, value]) =>
    [h("dt", { title: name }, cut(String(name))), h("dd", {}, valueText(value))]);
  const rest = told.length - MAX_ROWS;
  return h("dl", { class: "pairs" }, shown, rest > 0 ? h("dt", {}, `and ${rest} more`) : null);
}

function valueText(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return number(value, 6);
  return cut(typeof value === "string" ? value : JSON.stringify(value));
}

const cut = (text) => (text && text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);

const scalars = (values) =>
  values && typeof values === "object" ? Object.entries(values) : [];

function contexts(start, end) {
  const names = [...new Set([...Object.keys(start), ...Object.keys(end)])].slice(0, MAX_ROWS);
  if (!names.length) return null;
  return h("section", {}, h("h3", {}, "Training"),
    h("table", { class: "contexts" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Counter"), h("th", { scope: "col", class: "num" }, "At start"), h("th", { scope: "col", class: "num" }, "At end"))),
      h("tbody", {}, names.map((name) => h("tr", {},
        h("th", { scope: "row", title: name }, name),
        h("td", { class: "num" }, name in start ? valueText(start[name] ?? "–") : "–"),
        h("td", { class: "num" }, name in end ? valueText(end[name] ?? "–") : "–"))))));
}

/** Where the film went, or is to go; an empty part keeps the place of what may come. */
export function deliveriesPart(deliveries) {
  return h("section", { class: "delivered", hidden: !deliveries.length }, h("h3", {}, "Delivered to"),
    h("ul", { class: "deliveries" }, deliveries.map((delivery) => h("li", {},
      h("span", { class: "sink" }, delivery.sink, delivery.target ? h("span", { class: "quiet" }, ` ${cut(String(delivery.target))}`) : null),
      h("span", { class: `badge state-${/^[a-z]+$/.test(delivery.state) ? delivery.state : "odd"}` }, delivery.state),
      delivery.reason ? h("p", { class: "reason" }, cut(String(delivery.reason))) : null))));
}

function writerText(writer) {
  if (!writer) return null;
  const parts = [writer.worker, writer.vector_index === null || writer.vector_index === undefined ? null : `env ${writer.vector_index}`];
  return [`${writer.host} (${writer.pid})`, ...parts.filter(Boolean)].join(", ");
}

/** The label and value of the columns that say most about an episode, for a card or a caption. */
export function captionOf(row) {
  const parts = [];
  if (row.episode_return !== null && row.episode_return !== undefined) parts.push(`${label("episode_return")} ${number(row.episode_return)}`);
  if (row.episode_length !== null && row.episode_length !== undefined) parts.push(`${number(row.episode_length)} steps`);
  return parts.join(" · ");
}
