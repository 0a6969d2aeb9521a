// A film of pictures, in a <video>.

import { h } from "./dom.js";
import { Film } from "./film.js";
import { address } from "./source.js";

const ERRORS = {
  2: "the connection broke while the film was loading",
  3: "this browser could not decode the film; `rollcam doctor` and `rollcam transcode` may help",
  4: "this browser cannot play the film, or it is gone; `rollcam transcode` makes one that plays",
};
const SMALL = 200; // pixels; films below are shown with hard edges

/** Make the element that shows the pictures; its shape is known before its first byte. */
export function videoElement({ width, height, label }) {
  const video = h("video", {
    muted: true, playsInline: true, preload: "auto", disablePictureInPicture: true,
    class: width && width < SMALL ? "picture pixels" : "picture", "aria-label": label,
  });
  if (width && height) {
    video.width = width;
    video.height = height;
  }
  return video;
}

export class VideoFilm extends Film {
  #wanted = null; // the frame that is being sought
  #next = null; // the one to seek after that
  #request = 0;
  #blob = null;
  #isGone = false;

  /** @param isLoop It only plays, again and again; nobody asks for its frame. */
  constructor({ url, fps, nFrames, width, height, label = "Film", isStatic = false, isLoop = false }) {
    super({ fps, nFrames });
    this.element = videoElement({ width, height, label });
    this.element.loop = this.loops = isLoop;
    this.isLoop = isLoop;
    this.ready = this.#open(url, isStatic);
    this.ready.catch(() => {});
  }

  get isSettled() {
    return this.#wanted === null && this.#next === null && this.element.readyState >= 2;
  }

  play() {
    if (this.isAtEnd && !this.isPlaying) this.#seekTo(0);
    this.setPlaying(true);
    this.#start();
  }

  pause() {
    if (!this.isPlaying) return;
    this.setPlaying(false);
    this.element.pause();
    // The picture may be one frame ahead of what was told last; this settles it.
    this.#seekTo(this.frame);
  }

  seek(frame) {
    this.#seekTo(this.clamped(frame));
  }

  setRate(rate) {
    this.rate = rate;
    this.element.playbackRate = this.element.defaultPlaybackRate = rate;
  }

  close() {
    this.#isGone = true;
    this.element.cancelVideoFrameCallback?.(this.#request);
    this.element.pause();
    this.element.removeAttribute("src");
    this.element.load();
    if (this.#blob) URL.revokeObjectURL(this.#blob);
  }

  async #open(url, isStatic) {
    const video = this.element;
    const opened = new Promise((resolve, reject) => {
      video.addEventListener("loadeddata", resolve, { once: true });
      video.addEventListener("error", () => reject(this.#fail()), { once: true });
    });
    video.addEventListener("loadedmetadata", () => this.#sought());
    video.addEventListener("seeked", () => this.#sought());
    video.addEventListener("ended", () => this.#ended());
    if (!this.isLoop) this.#watch();
    const source = isStatic ? await this.#sourceOf(url) : address(url);
    if (!this.#isGone) video.src = source;
    await opened;
    if (this.isPlaying && this.element.paused) this.#start(); // it was asked for before there was a source
  }

  /** A host without byte ranges answers every seek with the first frame: then the film is fetched whole. */
  async #sourceOf(url) {
    const answer = await fetch(address(url), { headers: { Range: "bytes=0-1" } }).catch(() => null);
    if (!answer?.ok || answer.status === 206) return address(url);
    this.#blob = URL.createObjectURL(await answer.blob());
    return this.#blob;
  }

  #fail() {
    const text = ERRORS[this.element.error?.code] ?? "the film cannot be shown";
    this.setPlaying(false);
    if (!this.#isGone) this.tell("trouble", text);
    return new Error(text);
  }

  #start() {
    this.element.playbackRate = this.rate;
    this.element.play().catch((error) => {
      if (error.name === "AbortError") return; // paused again before it began
      this.setPlaying(false);
      if (!this.element.error) this.tell("trouble", "the browser did not start the film; press play once more");
    });
  }

  #watch() {
    this.#request = this.element.requestVideoFrameCallback((_, { mediaTime }) => {
      // `mediaTime` is exact where `currentTime` runs ahead. While the film stands still the frame is
      // the one that was sought: in a film of a lower rate several frames share a picture.
      if (this.#wanted === null && this.isPlaying) this.show(this.clamped(Math.floor(mediaTime * this.fps + 0.02)));
      if (!this.#isGone) this.#watch();
    });
  }

  #seekTo(frame) {
    if (this.#wanted !== null || this.element.readyState < 1) {
      this.#next = frame;
    } else {
      this.#wanted = frame;
      // To the middle of the frame: rounding must not land in the one before.
      this.element.currentTime = (frame + 0.5) / this.fps;
    }
    this.show(frame);
  }

  #sought() {
    this.#wanted = null;
    if (this.#next !== null) {
      const frame = this.#next;
      this.#next = null;
      this.#seekTo(frame);
    }
  }

  #ended() {
    this.show(this.nFrames - 1);
    if (this.loops && this.isPlaying) {
      this.#seekTo(0);
      this.#start();
    } else {
      this.setPlaying(false);
      this.#seekTo(this.nFrames - 1); // a busy browser may have left out the last pictures
    }
  }
}
