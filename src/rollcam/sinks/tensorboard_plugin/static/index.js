// The Rollcam tab of TensorBoard: one column a run, the newest film first.
//
// Everything that comes from a film (names, captions, numbers) is put into the page as text, never as
// markup. TensorBoard calls `render` once, in a frame of its own.

const POLL_MS = 10_000;
const PAGE = 24; // films of a run that are shown before "Show more"

const state = {
  films: [], // as the server told them, newest first
  runs: [], // names, sorted
  hidden: new Set(), // runs that the user switched off
  filter: "",
  shown: new Map(), // run -> how many of its films
  columns: new Map(), // run -> its elements
};

export async function render() {
  const style = element("link", { rel: "stylesheet", href: "./style.css" });
  document.head.append(style);
  document.title = "Rollcam";
  document.body.append(toolbar(), element("main", { id: "runs" }));
  await refresh();
  setInterval(() => {
    if (!document.hidden) refresh();
  }, POLL_MS);
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// --- the toolbar ------------------------------------------------------------------------------------

function toolbar() {
  const filter = element("input", { type: "search", id: "filter", placeholder: "Filter runs" });
  filter.setAttribute("aria-label", "Filter runs by name");
  filter.addEventListener("input", () => {
    state.filter = filter.value.trim().toLowerCase();
    draw();
  });
  const play = element("button", { type: "button", id: "play", textContent: "Play all" });
  play.addEventListener("click", () => videos().forEach((video) => video.play().catch(() => {})));
  const stop = element("button", { type: "button", id: "pause", textContent: "Pause all" });
  stop.addEventListener("click", () => videos().forEach((video) => video.pause()));
  const start = element("button", { type: "button", id: "rewind", textContent: "Rewind all" });
  start.addEventListener("click", () => videos().forEach((video) => (video.currentTime = 0)));
  const status = element("p", { id: "status" });
  status.setAttribute("role", "status");
  return element(
    "header", {}, filter, element("div", { id: "choices" }), play, stop, start, status,
  );
}

// Those that can be seen, so that "Play all" does not wake what lies far below.
function videos() {
  return [...document.querySelectorAll("video[src]")];
}

function drawChoices() {
  const choices = document.getElementById("choices");
  choices.replaceChildren(
    ...state.runs.filter(matches).map((run) => {
      const box = element("input", { type: "checkbox", checked: !state.hidden.has(run) });
      box.addEventListener("change", () => {
        state.hidden[box.checked ? "delete" : "add"](run);
        draw();
      });
      return element("label", {}, box, nameOf(run));
    }),
  );
}

const matches = (run) => nameOf(run).toLowerCase().includes(state.filter);
const nameOf = (run) => (run === "." ? "(log directory)" : run);

// --- the films --------------------------------------------------------------------------------------

async function refresh() {
  try {
    const answer = await fetch("./films", { signal: AbortSignal.timeout(POLL_MS) });
    if (!answer.ok) throw new Error(`TensorBoard answered ${answer.status}`);
    const told = (await answer.json()).films;
    if (JSON.stringify(told) === JSON.stringify(state.films) && told.length) return say();
    state.films = told;
    state.runs = [...new Set(told.map((film) => film.run))].sort(byName);
    draw();
  } catch (error) {
    say(`The list of films could not be read (${error.message}). The next try follows.`);
  }
}

const byName = (a, b) => a.localeCompare(b, undefined, { numeric: true });

function say(problem) {
  const n = state.films.length;
  const status = document.getElementById("status");
  status.textContent = problem ?? (n === 1 ? "1 film" : `${n} films`);
  status.classList.toggle("problem", Boolean(problem));
}

function draw() {
  say();
  drawChoices();
  const runs = state.runs.filter((run) => matches(run) && !state.hidden.has(run));
  for (const [run, column] of state.columns) {
    if (runs.includes(run)) continue;
    column.cards.forEach((card) => release(card));
    column.root.remove();
    state.columns.delete(run);
  }
  const main = document.getElementById("runs");
  runs.forEach((run, place) => {
    const column = state.columns.get(run) ?? newColumn(run);
    // A film that moves in the page stops playing, so only what stands wrong is moved.
    if (main.children[place] !== column.root) main.insertBefore(column.root, main.children[place]);
    fill(column, state.films.filter((film) => film.run === run));
  });
}

function newColumn(run) {
  const more = element("button", { type: "button", className: "more" });
  const list = element("div", { className: "films" });
  const title = element("h2", { textContent: nameOf(run), title: nameOf(run) });
  const root = element("section", {}, title, list, more);
  const column = { run, root, list, more, cards: new Map() };
  more.addEventListener("click", () => {
    state.shown.set(run, (state.shown.get(run) ?? PAGE) + PAGE);
    draw();
  });
  state.columns.set(run, column);
  return column;
}

function fill(column, films) {
  const wanted = films.slice(0, state.shown.get(column.run) ?? PAGE);
  const keys = new Set(wanted.map((film) => film.key));
  for (const [key, card] of column.cards) {
    if (keys.has(key)) continue;
    release(card);
    card.remove();
    column.cards.delete(key);
  }
  wanted.forEach((film, place) => {
    const card = column.cards.get(film.key) ?? newCard(film);
    column.cards.set(film.key, card);
    if (column.list.children[place] !== card) {
      column.list.insertBefore(card, column.list.children[place]);
    }
  });
  const left = films.length - wanted.length;
  column.more.textContent = `Show more (${left})`;
  column.more.hidden = left === 0;
}

function newCard(film) {
  const video = element("video", { controls: true, loop: true, muted: true, preload: "metadata" });
  video.playsInline = true;
  video.dataset.film = `./film?key=${encodeURIComponent(film.key)}`;
  video.setAttribute("aria-label", film.caption);
  video.addEventListener("error", () => card.classList.add("broken"));
  const facts = [`step ${film.step.toLocaleString("en")}`];
  if (Number.isFinite(film.scalars.return)) facts.push(`return ${short(film.scalars.return)}`);
  const caption = element(
    "figcaption", {},
    element("b", { textContent: facts.join(" · ") }),
    element("span", { textContent: film.caption }),
    element("time", { textContent: when(film.ended_at) }),
  );
  const card = element("figure", {}, video, caption);
  card.dataset.episode = film.episode_id;
  inView.observe(card);
  return card;
}

const short = (number) => String(Number(number.toPrecision(6)));

function when(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleString();
}

// A film is opened when it comes near the screen and let go when it is far away: a page of a
// thousand open films would hold a thousand decoders.
const inView = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const video = target.querySelector("video");
      if (isIntersecting && !video.hasAttribute("src")) video.src = video.dataset.film;
      else if (!isIntersecting && video.hasAttribute("src") && video.paused) drop(video);
    }
  },
  { rootMargin: "400px" },
);

function release(card) {
  inView.unobserve(card);
  drop(card.querySelector("video"));
}

function drop(video) {
  video.pause();
  video.removeAttribute("src");
  video.load();
}
