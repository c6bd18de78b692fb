// One stream of the server, opened again where that is worth it.

import { parseFrame } from "./frames.js";

/**
 * @typedef {import("./frames.js").Frame} Frame
 *
 * @typedef {object} Listener
 * @property {(frame: Frame) => void} onFrame
 * @property {(words: string) => void} onTrouble nothing: frames come again
 * @property {() => Promise<void>} onUnauthorized resolves when there is a session
 */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const UNAUTHORIZED = 4401;
const LASTING = [4400, 4403, 4404, 4406, 4409, 4422]; // asking again gets the same answer

export class Stream {
  /** @param {string} path with its query, below the server's own @param {Listener} listener */
  constructor(path, listener) {
    const address = new URL(path, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    this.address = address;
    this.listener = listener;
    this.isClosed = false;
    this.waitMs = FIRST_WAIT_MS;
    this.retry = 0;
    this.open();
  }

  open() {
    if (this.isClosed) return;
    this.socket = new WebSocket(this.address);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("message", (event) => this.onMessage(event.data));
    this.socket.addEventListener("close", (event) => this.onClose(event));
  }

  /** End it; nothing comes after this. */
  close() {
    this.isClosed = true;
    clearTimeout(this.retry);
    this.socket?.close();
  }

  /** @param {ArrayBuffer} message */
  onMessage(message) {
    if (this.isClosed) return;
    this.waitMs = FIRST_WAIT_MS;
    this.listener.onTrouble("");
    this.listener.onFrame(parseFrame(message));
  }

  /** @param {CloseEvent} event */
  async onClose(event) {
    if (this.isClosed) return;
    const words = event.reason.replace(/^\w+: */, "") || "the connection to the server is lost";
    if (event.code === UNAUTHORIZED) {
      await this.listener.onUnauthorized();
      this.open();
    } else if (LASTING.includes(event.code)) {
      this.close();
      this.listener.onTrouble(`The stream ended: ${words}.`);
    } else {
      this.listener.onTrouble(`The stream paused: ${words}. It is tried again.`);
      this.retry = setTimeout(() => this.open(), this.waitMs);
      this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
    }
  }
}
