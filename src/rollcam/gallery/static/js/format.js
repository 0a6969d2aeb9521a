// Values as people read them.

const DASH = "–";

/** A number of the sidecar, which says the odd ones in words. */
export function asNumber(value) {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return Number(value);
  if (value === "inf") return Infinity;
  return value === "-inf" ? -Infinity : NaN;
}

export function number(value, digits = 4) {
  if (value === null || value === undefined) return DASH;
  const n = asNumber(value);
  if (Number.isNaN(n)) return String(value);
  if (!Number.isFinite(n)) return n > 0 ? "∞" : "−∞";
  if (Number.isInteger(n) && Math.abs(n) < 1e15) return whole(n);
  const size = Math.abs(n);
  if (size >= 1e7 || size < 1e-4) return minus(n.toExponential(2));
  return minus(n.toFixed(Math.max(0, Math.min(6, digits - Math.floor(Math.log10(size)) - 1))));
}

const minus = (text) => text.replace("-", "−");

const whole = (n) => minus(String(n).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009"));

export function seconds(value) {
  if (!Number.isFinite(value)) return DASH;
  const minutes = Math.floor(value / 60);
  const rest = (value - minutes * 60).toFixed(2).padStart(5, "0");
  return `${minutes}:${rest}`;
}

export function bytes(value) {
  if (!Number.isFinite(value)) return DASH;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  while (value >= 1000 && k < units.length - 1) {
    value /= 1000;
    k += 1;
  }
  return `${k && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[k]}`;
}

/** A moment: the time of today, the date of other days. */
export function moment(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return DASH;
  const pad = (n) => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** The last part of a ULID says more than its first, which is the time. */
export const short = (id) => (typeof id === "string" && id.length > 12 ? `…${id.slice(-6)}` : id);

const STATUS = {
  __proto__: null,
  complete: "complete",
  truncated_by_crash: "cut by a crash",
  failed: "failed",
  empty: "no film",
};

const LABELS = {
  __proto__: null,
  name: "Name", env_id: "Env", run_id: "Run", mode: "Mode", kind: "Kind", status: "Status",
  episode_return: "Return", episode_length: "Length", n_frames: "Frames", duration_s: "Seconds",
  seed: "Seed", episode_index: "Episode", step_index: "Env step", iteration: "Iteration",
  terminated: "Terminated", truncated: "Truncated", started_at: "Started", ended_at: "Ended",
  size_bytes: "Size", n_dropped: "Dropped", codec: "Codec", worker: "Worker",
  vector_index: "Sub-env", episode_id: "Id", folder: "Folder",
};

/** The heading of a column: ours in words, a trainer's counter by its own name. */
export const label = (column) => LABELS[column] ?? column.replace(/^context_at_end\./, "");

/** Any value of a sidecar or a list, as text. */
export function plain(column, value) {
  if (value === null || value === undefined || value === "") return DASH;
  if (column === "started_at" || column === "ended_at") return moment(value);
  if (column === "size_bytes") return bytes(value);
  if (column === "duration_s") return number(value, 3);
  if (column === "seed") return String(value);
  if (column === "run_id") return short(value);
  if (column === "status") return STATUS[value] ?? String(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return number(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}
