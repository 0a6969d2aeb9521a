// Films that are still being recorded: their bytes are asked for again and again, from where the
// last answer ended. While it is followed, the newest frame is shown as soon as it is there.

import { parseCast } from "./cast.js";
import { Film } from "./film.js";
import { GalleryError, reach } from "./source.js";
import { TextFilm } from "./text_film.js";
import { videoElement } from "./video_film.js";

const POLL_MS = 400;
const PATIENCE = 20; // answers that may fail in a row
const FINISHING = 15; // answers to wait, after the last frame, for the finished film
const MOOF = 0x6d6f6f66, MDAT = 0x6d646174;
const SYNC = 0x02000000; // decoding can begin here
const KEPT_S = 120; // of film behind the newest frame, when the browser's buffer is full

/** Asks for what has grown; `take(bytes)` gets it, `gone(id)` is told how it ended. */
class Tail {
  #next = 0;
  #timer = 0;
  #isStopped = false;
  #failures = 0;
  #gone = 0;

  constructor(url, { take, gone, trouble }) {
    this.url = url;
    Object.assign(this, { take, gone, trouble });
    this.#poll();
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #poll() {
    let isMore = false;
    try {
      const answer = await reach(`${this.url}?from=${this.#next}`, { cache: "no-store" });
      const bytes = new Uint8Array(await answer.arrayBuffer());
      if (this.#isStopped) return;
      this.#next = Number(answer.headers.get("rollcam-next") ?? this.#next + bytes.length);
      this.#failures = 0;
      if (bytes.length) await this.take(bytes);
      isMore = bytes.length > 2 ** 20;
    } catch (error) {
      if (this.#isStopped || this.#fails(error)) return;
    }
    if (!this.#isStopped) this.#timer = setTimeout(() => this.#poll(), isMore ? 0 : POLL_MS);
  }

  #fails(error) {
    if (error instanceof GalleryError && error.status === 404) {
      this.#gone += 1;
      if (!error.body.became && this.#gone < FINISHING) return false;
      this.stop();
      this.gone(error.body.became ?? null);
      return true;
    }
    this.#failures += 1;
    if (this.#failures <= PATIENCE) return false;
    this.stop();
    this.trouble(error.message);
    return true;
  }
}

/** Where the body of a box of that type begins, among these bytes; -1 if there is none. */
function bodyOf(bytes, type) {
  const wanted = [...type].map((letter) => letter.charCodeAt(0));
  for (let k = 4; k + 4 <= bytes.length; k++) {
    if (wanted.every((code, n) => bytes[k + n] === code)) return k + 4;
  }
  return -1;
}

function joinedOf(first, second) {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** How many bytes whole pictures take, and of each where it and its duration stand, and its time. */
function wholePictures(bytes) {
  const view = viewOf(bytes);
  const pictures = [];
  let at = 0, length = 0, picture = null;
  while (at + 8 <= bytes.length) {
    const size = view.getUint32(at);
    if (size < 8 || at + size > bytes.length) break;
    const type = view.getUint32(at + 4);
    if (type === MOOF) {
      const box = bytes.subarray(at, at + size);
      const tfdt = at + bodyOf(box, "tfdt"), trun = at + bodyOf(box, "trun");
      picture = {
        at, time: view.getUint32(tfdt + 4) * 2 ** 32 + view.getUint32(tfdt + 8),
        durationAt: trun + 12, isKey: view.getUint32(trun + 20) === SYNC,
      };
    } else if (type === MDAT && picture) {
      pictures.push(picture);
      picture = null;
    }
    at += size;
    if (!picture) length = at;
  }
  return { pictures, length };
}

/** The codec string that MediaSource wants, from the `avcC` box of an MP4's first bytes. */
function codecOf(bytes) {
  const at = bodyOf(bytes, "avcC");
  if (at < 0) return null;
  const levels = [...bytes.subarray(at + 1, at + 4)];
  return `avc1.${levels.map((n) => n.toString(16).padStart(2, "0")).join("")}`;
}

/** Ticks per second, from the `mdhd` box of an MP4's first bytes. */
function timescaleOf(bytes) {
  const at = bodyOf(bytes, "mdhd");
  return at < 0 ? 0 : viewOf(bytes).getUint32(at + (bytes[at] === 1 ? 20 : 12));
}

export class LiveVideoFilm extends Film {
  #source = new MediaSource();
  #url = URL.createObjectURL(this.#source);
  #buffer = null;
  #rest = new Uint8Array(0); // what is not whole yet
  #group = new Uint8Array(0); // since the last key frame
  #tail = null;
  #request = 0;
  #isSeeking = false;
  #timescale = 0; // ticks per second
  #isThere = false;

  constructor({ url, fps, width, height, label }) {
    super({ fps, nFrames: 1 });
    this.isFollowing = true;
    this.element = videoElement({ width, height, label });
    this.ready = this.#open(url);
    this.ready.catch(() => {});
  }

  get isSettled() {
    return !this.#isSeeking && this.element.readyState >= 2;
  }

  play() {
    this.isFollowing = false;
    if (this.isAtEnd) this.#seekTo(0);
    this.setPlaying(true);
    this.element.play().catch(() => this.setPlaying(false));
  }

  pause() {
    if (!this.isPlaying) return;
    this.setPlaying(false);
    this.element.pause();
    this.#seekTo(this.frame);
  }

  seek(frame) {
    this.isFollowing = this.clamped(frame) >= this.nFrames - 1;
    this.#seekTo(this.clamped(frame));
  }

  /** Show the newest frame from now on. */
  follow() {
    this.pause();
    this.seek(this.nFrames - 1);
  }

  setRate(rate) {
    this.rate = rate;
    this.element.playbackRate = this.element.defaultPlaybackRate = rate;
  }

  close() {
    this.#tail?.stop();
    this.element.cancelVideoFrameCallback?.(this.#request);
    this.element.pause();
    this.element.removeAttribute("src");
    this.element.load();
    URL.revokeObjectURL(this.#url);
  }

  async #open(url) {
    const video = this.element;
    video.addEventListener("seeked", () => {
      this.#isSeeking = false;
      if (this.isFollowing && !this.isAtEnd) this.#seekTo(this.nFrames - 1);
    });
    this.#watch();
    await new Promise((resolve) => {
      this.#source.addEventListener("sourceopen", resolve, { once: true });
      video.src = this.#url;
    });
    await new Promise((resolve, reject) => {
      const trouble = (text) => {
        this.tell("trouble", text);
        reject(new Error(text));
      };
      const take = (bytes) => this.#take(bytes, trouble).then(() => this.#isThere && resolve());
      this.#tail = new Tail(url, { take, trouble, gone: (id) => this.tell("became", id) });
    });
  }

  async #take(bytes, trouble) {
    const joined = joinedOf(this.#rest, bytes);
    const { pictures, length } = wholePictures(joined);
    this.#rest = joined.slice(length);
    if (!length) return;
    const whole = joined.subarray(0, length);
    if (!this.#buffer && !this.#begin(whole, trouble)) return;
    await this.#append(this.#continued(whole));
    if (!pictures.length) return;
    this.nFrames = Math.floor((pictures.at(-1).time / this.#timescale) * this.fps + 0.02) + 1;
    this.#isThere = true;
    this.tell("grow");
    if (this.isFollowing) this.#seekTo(this.nFrames - 1);
  }

  /**
   * Show each picture until the next one: frames may have been dropped between them.
   *
   * After a gap MediaSource takes nothing before the next key frame. So when the newest picture of last time
   * has to be shown for longer than it said, all since its key frame is given once more.
   */
  #continued(bytes) {
    const from = this.#group.length;
    const all = joinedOf(this.#group, bytes);
    const { pictures } = wholePictures(all);
    const view = viewOf(all);
    let isLonger = false;
    pictures.slice(0, -1).forEach(({ at, time, durationAt }, k) => {
      const duration = pictures[k + 1].time - time;
      isLonger ||= at < from && view.getUint32(durationAt) !== duration;
      view.setUint32(durationAt, duration);
    });
    this.#group = all.slice(pictures.findLast(({ isKey }) => isKey)?.at ?? 0);
    return isLonger ? all : all.subarray(from);
  }

  #begin(bytes, trouble) {
    const codec = codecOf(bytes);
    this.#timescale = timescaleOf(bytes);
    const type = `video/mp4; codecs="${codec}"`;
    if (!codec || !this.#timescale || !MediaSource.isTypeSupported(type)) {
      this.#tail.stop();
      trouble("this film can be watched when it is finished; its codec cannot be followed live");
      return false;
    }
    this.#buffer = this.#source.addSourceBuffer(type);
    return true;
  }

  async #append(bytes) {
    const done = () => new Promise((resolve) =>
      this.#buffer.addEventListener("updateend", resolve, { once: true }));
    try {
      const appended = done();
      this.#buffer.appendBuffer(bytes);
      await appended;
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      const removed = done();
      this.#buffer.remove(0, Math.max(0.1, this.timeOf(this.nFrames) - KEPT_S));
      await removed;
      const appended = done();
      this.#buffer.appendBuffer(bytes);
      await appended;
    }
  }

  #watch() {
    this.#request = this.element.requestVideoFrameCallback((_, { mediaTime }) => {
      if (!this.#isSeeking && this.isPlaying) this.show(this.clamped(Math.floor(mediaTime * this.fps + 0.02)));
      if (this.isPlaying && this.isAtEnd) this.follow(); // it has caught up
      this.#watch();
    });
  }

  #seekTo(frame) {
    this.show(frame);
    this.#isSeeking = true;
    this.element.currentTime = (frame + 0.5) / this.fps;
  }
}

export class LiveTextFilm extends TextFilm {
  #tail;
  #text = "";
  #decoder = new TextDecoder();

  constructor({ url, ...rest }) {
    super({ ...rest, url: null, nFrames: 1 });
    this.isFollowing = true;
    this.ready = new Promise((resolve, reject) => {
      this.#tail = new Tail(url, {
        take: async (bytes) => {
          this.#grow(bytes, await firstLine(url));
          resolve();
        },
        gone: (id) => this.tell("became", id),
        trouble: (text) => {
          this.tell("trouble", text);
          reject(new Error(text));
        },
      });
    });
    this.ready.catch(() => {});
  }

  play() {
    this.isFollowing = false;
    super.play();
  }

  seek(frame) {
    this.isFollowing = this.clamped(frame) >= this.nFrames - 1;
    super.seek(frame);
  }

  follow() {
    this.pause();
    this.seek(this.nFrames - 1);
  }

  close() {
    this.#tail.stop();
    super.close();
  }

  #grow(bytes, head) {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    const rest = this.#text.slice(this.#text.indexOf("\n"));
    this.take(parseCast(head + rest));
    this.tell("grow");
    if (this.isFollowing) super.seek(this.nFrames - 1);
  }
}

/** The head of a growing cast is written anew when its screen grows. */
async function firstLine(url) {
  const answer = await reach(`${url}?from=0`, { cache: "no-store" });
  const reader = answer.body.getReader();
  const { value } = await reader.read();
  reader.cancel();
  return new TextDecoder().decode(value ?? new Uint8Array()).split("\n")[0];
}
