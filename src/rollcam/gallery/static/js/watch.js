// The page of one episode: its film, the values in step with it, its facts, and the way to the next.

import { GrowingColumns } from "./columns.js";
import { playbackKeys } from "./controls.js";
import { announce, h, notice, toast } from "./dom.js";
import { deliveriesPart, factsPanel } from "./facts.js";
import { number, plain } from "./format.js";
import { useKeys } from "./keys.js";
import { filmOf, liveFilmOf, noFilm, Player } from "./player.js";
import { carriedOf, go, hrefOf, note, questionOf } from "./route.js";
import { address, getJson } from "./source.js";

const WAYS = [
  ["worse", "Next worse", "["], ["better", "Next better", "]"],
  ["earlier", "Earlier", "{"], ["later", "Later", "}"],
];
const STEPS_POLL_MS = 500;

export class Watch {
  #player = null;
  #timer = 0;
  #stop = new AbortController();

  constructor({ source, place, live }) {
    this.source = source;
    this.place = place;
    this.isLive = place.view === "live";
    this.news = live;
    this.element = h("main", { class: "watch", tabIndex: -1 });
    this.#open();
  }

  close() {
    this.#stop.abort();
    clearTimeout(this.#timer);
    this.#player?.close();
  }

  get #backHref() {
    return hrefOf("find", "", carriedOf(this.place.params));
  }

  async #open() {
    useKeys({ Escape: () => this.#back() });
    // What is not known yet keeps its place, so that nothing moves when it comes.
    this.element.replaceChildren(this.#bar("…"), h("div", { class: "watch-body" },
      h("div", { class: "watch-film" }, h("div", { class: "stage" })), h("aside", { class: "facts", "aria-label": "Facts" })));
    try {
      if (this.isLive) await this.#openLive();
      else await this.#openFinished();
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.element.replaceChildren(this.#bar("Episode"), notice("This episode cannot be shown", error.message,
        h("a", { class: "button", href: this.#backHref }, "Back to the episodes")));
    }
  }

  async #openFinished() {
    const { signal } = this.#stop;
    const known = this.news.deliveries;
    const facts = await this.source.facts(this.place.id, { signal });
    if (signal.aborted) return;
    const { sidecar, media } = facts;
    document.title = `${sidecar.name} · Rollcam`;
    const tools = [
      media && h("a", { class: "button", href: address(`${media.url}${this.source.isLive ? "?download=1" : ""}`), download: media.name }, "Download"),
      h("button", { type: "button", class: "button", onclick: () => this.#copyLink(), title: "Copy a link to this step (y)" }, "Copy link"),
    ];
    const around = h("nav", { class: "around", "aria-label": "Other episodes" }, WAYS.map(([way, text, key]) =>
      h("a", { class: "button", "data-way": way, "aria-disabled": "true", title: `${text} ( ${key} )` }, text)));
    const stage = h("div", { class: "watch-film" });
    this.element.replaceChildren(this.#bar(sidecar.name, ...tools), h("div", { class: "watch-body" }, stage, factsPanel(facts)), around);
    stage.after(around);
    if (media) this.#showFilm(stage, filmOf(facts, { isStatic: !this.source.isLive }), facts);
    else stage.append(noFilm(sidecar));
    this.#neighbours(around).catch(() => {});
    this.news.addEventListener("deliveries", () => this.#showDeliveries(), { signal });
    if (this.news.deliveries !== known) this.#showDeliveries(); // something was written meanwhile
    if (!media && facts.steps) this.#loadSteps(facts.steps).catch(() => {});
  }

  async #showDeliveries() {
    const facts = await this.source.facts(this.place.id, { signal: this.#stop.signal }).catch(() => null);
    if (facts) this.element.querySelector(".delivered")?.replaceWith(deliveriesPart(facts.deliveries ?? []));
  }

  #showFilm(stage, film, facts) {
    this.#use(stage, film);
    const wanted = Number(this.place.params.get("frame"));
    if (wanted > 0) film.seek(wanted);
    film.ready.then(() => wanted > 0 && film.seek(wanted)).catch(() => {});
    film.addEventListener("frame", () => this.#noteFrame());
    film.addEventListener("state", () => this.#noteFrame());
    if (facts.steps) this.#loadSteps(facts.steps).catch((error) => toast(`The values per step cannot be read: ${error.message}`));
    else this.#player.setColumns({});
  }

  #use(stage, film) {
    this.#player = new Player(film);
    stage.append(this.#player.element);
    const { controls } = this.#player;
    useKeys({
      ...playbackKeys(controls),
      Escape: () => this.#back(),
      y: () => this.#copyLink(),
      "/": () => this.#back(),
      f: () => film.follow?.(),
      ...Object.fromEntries(WAYS.map(([way, , key]) => [key, () => this.#toNeighbour(way)])),
    });
    this.element.focus({ preventScroll: true });
  }

  async #loadSteps(path) {
    const steps = await getJson(path, { signal: this.#stop.signal });
    this.#player?.setColumns(steps.columns);
  }

  async #neighbours(nav) {
    const asked = questionOf(this.place.params);
    const found = await this.source.neighbours(this.place.id, asked, { signal: this.#stop.signal });
    for (const [way] of WAYS) {
      const link = nav.querySelector(`[data-way=${way}]`);
      const row = found[way];
      if (!row) continue;
      link.href = hrefOf("watch", row.id, carriedOf(this.place.params));
      link.removeAttribute("aria-disabled");
      const told = way === "worse" || way === "better" ? number(row.episode_return) : plain("started_at", row.started_at).slice(5);
      link.append(h("span", { class: "quiet num" }, ` ${told}`));
    }
  }

  #toNeighbour(way) {
    this.element.querySelector(`[data-way=${way}][href]`)?.click();
  }

  #bar(title, ...tools) {
    return h("header", { class: "bar" },
      h("a", { class: "button back", href: this.#backHref }, "← Episodes"),
      h("h1", { class: "title", title }, title), h("div", { class: "tools" }, tools));
  }

  #back() {
    go("find", "", carriedOf(this.place.params));
  }

  #address() {
    const params = carriedOf(this.place.params);
    if (this.#player) params.set("frame", this.#player.film.frame);
    return params;
  }

  /** The address follows the film, when it stands still: a reload, or a copied link, comes back here. */
  #noteFrame() {
    clearTimeout(this.#timer);
    if (this.#player.film.isPlaying) return;
    this.#timer = setTimeout(() => note("watch", this.place.id, this.#address()), 250);
  }

  async #copyLink() {
    const link = new URL(hrefOf("watch", this.place.id, this.#address()), document.baseURI).href;
    try {
      await navigator.clipboard.writeText(link);
      toast("The link to this step is copied");
    } catch {
      prompt("The link to this step:", link);
    }
  }

  async #openLive() {
    const growing = this.news.find(this.place.id) ?? (await this.source.growing()).find((one) => one.id === this.place.id);
    if (this.#stop.signal.aborted) return;
    if (!growing) throw new Error("it is not being recorded any more; look among the episodes");
    const name = growing.name ?? growing.env_id ?? "Episode";
    document.title = `Live: ${name} · Rollcam`;
    const stage = h("div", { class: "watch-film" });
    const follow = h("button", { type: "button", class: "button", title: "Newest step (f)" }, "Newest");
    const film = liveFilmOf(growing);
    follow.addEventListener("click", () => film.follow());
    const facts = { sidecar: { status: "complete", episode_return: null, ...growing }, media: null, deliveries: [] };
    this.element.replaceChildren(
      this.#bar(name, h("span", { class: "badge live" }, "Live"), follow),
      h("div", { class: "watch-body" }, stage, factsPanel(facts)));
    this.#use(stage, film);
    this.#player.setColumns({});
    film.addEventListener("became", ({ detail }) => this.#finished(detail));
    film.addEventListener("grow", () => this.#player.lanes.grow(film.nFrames));
    this.#followSteps(growing.steps);
  }

  async #followSteps(url) {
    const rows = new GrowingColumns();
    let next = 0;
    const look = async () => {
      try {
        const told = await getJson(`${url}?from=${next}`, { signal: this.#stop.signal });
        next = told.next;
        for (const [frame, row] of told.rows) rows.add(frame, row);
        if (told.rows.length) this.#showLive(rows);
      } catch (error) {
        if (this.#stop.signal.aborted || error.status === 404) return;
      }
      this.#timer = setTimeout(look, STEPS_POLL_MS);
    };
    await look();
  }

  #showLive(rows) {
    const { film } = this.#player;
    film.nFrames = Math.max(film.nFrames, 1);
    this.#player.setColumns(rows.columns);
    const line = this.element.querySelector(".figures");
    const returns = rows.columns.return ?? [];
    const [first, second] = line.querySelectorAll("dd");
    first.textContent = number(returns.at(-1) ?? null);
    second.textContent = number(Math.max(0, rows.n - 1));
  }

  /** The film is finished: the page goes on with the episode, at the step that was shown. */
  #finished(id) {
    if (!id) {
      this.#player.fail("The recording has ended; the finished film has not been found yet. Look among the episodes.");
      return;
    }
    const params = this.#address();
    announce("The episode is finished");
    toast("The episode is finished; this is its film");
    go("watch", id, params, { replace: true });
  }
}
