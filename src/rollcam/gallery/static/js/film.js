// A film as the page handles it, whatever it is made of: it knows its frame, and goes to any other.
//
// Events: `frame` (the frame shown has changed), `state` (playing or not), `grow` (a live film has
// more frames), `became` (a live film is finished; `detail` is its id), `trouble` (`detail` says why).

export class Film extends EventTarget {
  constructor({ fps, nFrames }) {
    super();
    this.fps = fps > 0 ? fps : 30;
    this.nFrames = Math.max(1, nFrames | 0);
    this.frame = 0;
    this.rate = 1;
    this.loops = false;
    this.isPlaying = false;
  }

  /** Seconds from the start at which a frame begins. */
  timeOf(frame) {
    return frame / this.fps;
  }

  /** Whether the picture shown is the one of `frame`. */
  get isSettled() {
    return true;
  }

  get isAtEnd() {
    return this.frame >= this.nFrames - 1;
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  /** Go some frames on or back, and stay there. */
  step(n) {
    this.pause();
    this.seek(this.frame + n);
  }

  clamped(frame) {
    return Math.max(0, Math.min(Math.round(frame), this.nFrames - 1));
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  show(frame) {
    if (frame === this.frame) return;
    this.frame = frame;
    this.tell("frame");
  }

  setPlaying(isPlaying) {
    if (isPlaying === this.isPlaying) return;
    this.isPlaying = isPlaying;
    this.tell("state");
  }
}
