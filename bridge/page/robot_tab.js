// The tab of the robot's cameras. Streams are open only while this tab is looked at.

import { CameraList } from "./camera_list.js";
import { LiveCamera } from "./live_camera.js";

/**
 * @typedef {import("./camera_list.js").Camera} Camera
 * @typedef {import("./cloud_view.js").CloudView} CloudView
 * @typedef {import("./compare_view.js").CompareView} CompareView
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {import("./server.js").Server} Server
 */

const LOOK_EVERY_MS = 1000;
const RATE_OVER_MS = 3000;

export class RobotTab {
  /**
   * @param {HTMLElement} root
   * @param {Server} server
   * @param {CompareView} compare
   * @param {CloudView} cloud
   */
  constructor(root, server, compare, cloud) {
    this.root = root;
    this.server = server;
    this.compare = compare;
    this.cloud = cloud;
    this.list = new CameraList(this.find(".cameras"), (camera) => this.choose(camera));
    /** @type {Camera | null} */
    this.camera = null;
    this.isWanted = false; // what the button says: frames are to come
    /** @type {LiveCamera | null} */
    this.live = null;
    /** @type {ImageBitmap | null} */
    this.picture = null;
    /** When the last frames came, in ms. @type {number[]} */
    this.arrivals = [];
    this.looking = 0;
    this.hasRobot = false;
    this.rate = /** @type {HTMLSelectElement} */ (this.find("select.rate"));
    this.find("button.run").addEventListener("click", () => this.run(!this.isWanted));
    this.rate.addEventListener("change", () => this.restart());
    document.addEventListener("visibilitychange", () => this.look());
  }

  /** Whether somebody can see this tab. */
  get isSeen() {
    return !this.root.hidden && !document.hidden;
  }

  /** Begin or end whatever costs the robot something, as the tab comes into sight or leaves it. */
  look() {
    clearInterval(this.looking);
    this.find(".none").textContent = this.hasRobot ? "" : "This server shows no robot: start it with --ros.";
    if (this.isSeen && this.hasRobot) {
      this.looking = setInterval(() => this.refresh(), LOOK_EVERY_MS);
      this.refresh();
    }
    this.connect();
  }

  /** Ask for the list of cameras, which subscribes to nothing. */
  async refresh() {
    try {
      const cameras = await this.server.cameras();
      this.list.show(cameras, this.camera?.name ?? null);
      this.find(".none").textContent = cameras.length ? "" : "No depth node is heard.";
      this.camera = cameras.find(({ name }) => name === this.camera?.name) ?? this.camera;
      if (!this.camera && cameras.length) this.choose(cameras[0]);
      this.showFacts();
    } catch (error) {
      this.find(".none").textContent = /** @type {Error} */ (error).message;
    }
  }

  /** @param {Camera} camera */
  choose(camera) {
    if (camera.name === this.camera?.name) return;
    this.camera = camera;
    this.list.mark(camera.name);
    this.find(".live").hidden = this.find(".figures").hidden = false;
    this.find(".name").textContent = camera.name;
    this.restart();
    this.showFacts();
  }

  /** @param {boolean} isWanted */
  run(isWanted) {
    this.isWanted = isWanted;
    this.find("button.run").textContent = isWanted ? "Stop" : "Start";
    this.connect();
    this.say(isWanted ? "Started." : "Stopped.");
  }

  restart() {
    this.disconnect();
    this.compare.clear();
    this.cloud.clear();
    this.connect();
  }

  /** Have streams open exactly while they are wanted and seen. */
  connect() {
    if (!this.isWanted || !this.isSeen || !this.camera) {
      this.disconnect();
      return;
    }
    if (this.live) return;
    this.compare.work("Waiting for the first frame");
    this.live = new LiveCamera(this.camera.name, this.rate.value, {
      onFrame: (depth, picture, frame) => this.show(depth, picture, frame),
      onTrouble: (words) => this.complain(words),
      onUnauthorized: () => this.server.askForKey(),
    });
  }

  disconnect() {
    this.live?.close();
    this.live = null;
    this.arrivals = [];
    this.compare.work("");
    this.complain("");
  }

  /** @param {Depth} depth @param {ImageBitmap | null} picture @param {Frame} frame */
  show(depth, picture, frame) {
    this.arrivals = [...this.arrivals.filter((at) => performance.now() - at < RATE_OVER_MS), performance.now()];
    this.compare.work("");
    if (picture) this.compare.showPicture(picture);
    else this.compare.clearPicture();
    this.compare.showDepth(depth);
    if (depth.kind === "relative") this.cloud.clear("Relative depth has no geometry: there is no cloud of it.");
    else if (!frame.camera) this.cloud.clear("This camera is not calibrated: there is no cloud.");
    else this.cloud.showLive(depth, picture ?? this.compare.colours, frame.camera);
    this.find(".bent").hidden = !frame.isBent;
    this.picture?.close();
    this.picture = picture;
    this.showFacts();
  }

  /** Rates, age and health, from what the server says and what came here. */
  showFacts() {
    const { camera } = this;
    if (!camera) return;
    const health = this.find(".health");
    health.textContent = camera.state === camera.message ? camera.state : `${camera.state}: ${camera.message}`;
    health.dataset.level = camera.state === "gone" ? "error" : camera.level;
    const hz = (/** @type {number | null} */ rate) => (rate === null ? "–" : `${rate.toFixed(1)} Hz`);
    const ms = (/** @type {number | null} */ time) => (time === null ? "–" : `${Math.round(time)} ms`);
    const span = Math.min(RATE_OVER_MS, performance.now() - (this.arrivals[0] ?? 0)) / 1000;
    const facts = {
      images: hz(camera.rate_in_hz),
      depth: hz(camera.rate_out_hz),
      shown: this.live ? hz(this.arrivals.length > 1 ? (this.arrivals.length - 1) / span : 0) : "–",
      frames: this.live ? `${this.live.received}, ${this.live.skipped} skipped` : "–",
      latency: ms(camera.latency_ms),
      age: ms(camera.age_ms),
      size: camera.width ? `${camera.width} × ${camera.height}` : "–",
      model: camera.model ?? "–",
    };
    this.find(".rates").replaceChildren(
      ...Object.entries(facts).map(([name, value]) => {
        const fact = document.createElement("div");
        fact.append(Object.assign(document.createElement("dt"), { textContent: name }));
        fact.append(Object.assign(document.createElement("dd"), { textContent: value, className: name }));
        return fact;
      }),
    );
  }

  /** @param {string} words nothing: all is well */
  complain(words) {
    const problem = this.find(".problem");
    if (problem.textContent !== words) problem.textContent = words;
    problem.hidden = !words;
  }

  /** @param {string} words for those who cannot see */
  say(words) {
    this.find(".views > .spoken").textContent = words;
  }

  /** @param {string} selector @returns {HTMLElement} */
  find(selector) {
    return /** @type {HTMLElement} */ (this.root.querySelector(selector));
  }
}
