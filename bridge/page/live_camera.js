// A camera's live frames: its depth, and the picture that each was made from.

import { Stream } from "./stream.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {import("./stream.js").Listener} Listener
 *
 * @typedef {object} LiveListener
 * @property {(depth: Depth, picture: ImageBitmap | null, frame: Frame) => void} onFrame null: its picture never came
 * @property {Listener["onTrouble"]} onTrouble
 * @property {Listener["onUnauthorized"]} onUnauthorized
 */

const KEPT_PICTURES = 32; // depth comes later than its picture
const PICTURE_WAIT_MS = 250; // in case it does not
const RANGE_FOLLOWS = 0.2; // how much of a new frame's range the colours take over: they do not flicker

export class LiveCamera {
  /** @param {string} name @param {string} maxRateHz empty: as they come @param {LiveListener} listener */
  constructor(name, maxRateHz, listener) {
    this.listener = listener;
    /** Encoded pictures by stamp, the oldest first. @type {Map<string, Blob>} */
    this.pictures = new Map();
    /** Depth whose picture has not come yet. @type {Frame | null} */
    this.waiting = null;
    this.timer = 0;
    this.isClosed = false;
    /** @type {{lowest: number, highest: number} | null} */
    this.range = null;
    this.received = this.skipped = 0;
    this.lastSequence = -1;
    const path = `cameras/${encodeURIComponent(name)}/stream`;
    const limit = maxRateHz ? `&max_rate_hz=${maxRateHz}` : "";
    const shared = { onTrouble: listener.onTrouble, onUnauthorized: listener.onUnauthorized };
    this.streams = [
      // Pictures are not limited: those of the depth's stamps have to be among them.
      new Stream(`${path}?what=image&format=jpeg`, { ...shared, onFrame: (frame) => this.onPicture(frame) }),
      new Stream(`${path}?what=depth&format=raw${limit}`, { ...shared, onFrame: (frame) => this.onDepth(frame) }),
    ];
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    for (const stream of this.streams) stream.close();
    this.pictures.clear();
  }

  /** @param {Frame} frame */
  onPicture({ stamp, message, start, length }) {
    this.pictures.set(stamp, new Blob([new Uint8Array(message, start, length)], { type: "image/jpeg" }));
    if (this.pictures.size > KEPT_PICTURES) this.pictures.delete([...this.pictures.keys()][0]);
    if (this.waiting?.stamp === stamp) this.deliver(this.waiting);
  }

  /** @param {Frame} frame */
  onDepth(frame) {
    this.received++;
    if (this.lastSequence >= 0) this.skipped += Math.max(0, frame.sequence - this.lastSequence - 1);
    this.lastSequence = frame.sequence;
    if (this.pictures.has(frame.stamp)) this.deliver(frame);
    else {
      clearTimeout(this.timer);
      this.waiting = frame;
      this.timer = setTimeout(() => this.deliver(frame), PICTURE_WAIT_MS);
    }
  }

  /** Hand over depth with its picture. @param {Frame} frame */
  async deliver(frame) {
    clearTimeout(this.timer);
    this.waiting = null;
    const file = this.pictures.get(frame.stamp);
    const picture = file ? await createImageBitmap(file, { colorSpaceConversion: "none" }) : null;
    if (this.isClosed) return;
    const { width, height, message, start } = frame;
    const values = new Float32Array(message, start, width * height);
    this.listener.onFrame({ values, width, height, kind: frame.kind ?? "metric", ...this.follow(frame) }, picture, frame);
  }

  /** The range of the colours. @param {Frame} frame */
  follow({ lowest, highest }) {
    if (Number.isNaN(lowest)) return this.range ?? { lowest, highest };
    const last = this.range ?? { lowest, highest };
    this.range = {
      lowest: last.lowest + RANGE_FOLLOWS * (lowest - last.lowest),
      highest: last.highest + RANGE_FOLLOWS * (highest - last.highest),
    };
    return this.range;
  }
}
