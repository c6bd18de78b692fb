// This page's own server: requests, answers, and errors in its words.

import { finiteRange } from "./depth.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./depth.js").Kind} Kind
 *
 * @typedef {object} Model one that can be asked for, as `GET /models` says
 * @property {string} encoder
 * @property {string} dataset
 * @property {Kind} kind
 * @property {number | null} max_depth
 * @property {boolean} needs_focal
 * @property {string | null} license
 * @property {"here" | "download" | "missing" | "untrained"} weights
 * @property {string[]} loaded
 *
 * @typedef {{needs_key: boolean, signed_in: boolean, name: string | null, robot: boolean}} Session
 *
 * @typedef {Depth & {modelKey: string, maxDepth: number | null, focalPx: number | null, timing: string}} Answer
 */

const FLOAT32 = "application/octet-stream";

/** An answer that is no success, or none at all. */
export class ServerError extends Error {
  /** @param {string} message the server's own @param {number} status 0: there was no answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Server {
  /** @param {() => Promise<void>} askForKey resolves when there is a session */
  constructor(askForKey) {
    this.askForKey = askForKey;
    /** Whether requests need a key, as far as is known. */
    this.needsKey = false;
  }

  /**
   * @param {string} path below the page's own
   * @param {RequestInit} [options]
   * @returns {Promise<Response>} a success
   * @throws {ServerError}
   */
  async request(path, options = {}) {
    const response = await send(path, options);
    if (response.status === 401) {
      this.needsKey = true;
      await this.askForKey();
      return accepted(await send(path, options));
    }
    return accepted(response);
  }

  /**
   * Exchange a key for a session, which the browser keeps as a cookie.
   * @param {string} key
   * @throws {ServerError}
   */
  async signIn(key) {
    await accepted(await send("session", { method: "POST", headers: { Authorization: `Bearer ${key}` } }));
  }

  /** Whether the server needs a key, whether this browser has a session, and whether there is a robot. @returns {Promise<Session>} */
  async session() {
    const session = await (await accepted(await send("session", {}))).json();
    this.needsKey = session.needs_key;
    return session;
  }

  /** Forget the session. */
  async signOut() {
    await accepted(await send("session", { method: "DELETE" }));
  }

  /** @returns {Promise<{default: string, models: Model[]}>} */
  async models() {
    return (await this.request("models")).json();
  }

  /** The robot's cameras. @returns {Promise<import("./camera_list.js").Camera[]>} */
  async cameras() {
    return (await (await this.request("cameras")).json()).cameras;
  }

  /** In one line what works here, which needs no key. */
  async health() {
    const { status, device, model_instances: loaded } = await (await accepted(await send("health", {}))).json();
    const { backend, precision } = loaded[0] ?? {};
    return [status, device.toUpperCase(), loaded.length ? `${backend} ${precision}` : "no model loaded yet"].join(" · ");
  }

  /**
   * Depth of a picture.
   * @param {Blob} picture
   * @param {string} path with its query
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  async depth(picture, path, signal) {
    const headers = { Accept: FLOAT32, "Content-Type": picture.type || FLOAT32 };
    const response = await this.request(path, { method: "POST", body: picture, headers, signal });
    const number = (/** @type {string} */ name) => {
      const text = response.headers.get(name);
      return text === null ? null : Number(text);
    };
    const [height, width] = (response.headers.get("X-Shape") ?? "").split(",").map(Number);
    const values = new Float32Array(await response.arrayBuffer());
    return {
      values,
      width,
      height,
      kind: /** @type {Kind} */ (response.headers.get("X-Kind")),
      ...finiteRange(values),
      modelKey: response.headers.get("X-Model-Key") ?? "",
      maxDepth: number("X-Max-Depth"),
      focalPx: number("X-Focal-Px"),
      timing: response.headers.get("Server-Timing") ?? "",
    };
  }

  /** How many requests wait for a device, and how many are accepted in all. @param {AbortSignal} signal */
  async queue(signal) {
    const text = await (await this.request("metrics", { signal })).text();
    const value = (/** @type {string} */ name) => Number(new RegExp(`^depth_bridge_${name} (\\S+)`, "m").exec(text)?.[1]);
    return { waiting: value("queue_depth"), accepted: value("in_flight") };
  }
}

/** @param {string} path @param {RequestInit} options */
async function send(path, options) {
  try {
    return await fetch(new URL(path, document.baseURI), { credentials: "same-origin", ...options });
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw new ServerError("The server does not answer.", 0);
  }
}

/** @param {Response} response */
async function accepted(response) {
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new ServerError(said?.detail ?? `The server answered ${response.status}.`, response.status);
}

/** `Server-Timing` as people read it. @param {string} header such as `queue;dur=0.1, infer;dur=123.4` */
export function timingText(header) {
  const stages = [...header.matchAll(/(\w+);dur=([\d.]+)/g)];
  return stages.map(([, name, ms]) => `${name} ${Number(ms).toFixed(Number(ms) < 10 ? 1 : 0)} ms`).join(" · ");
}
