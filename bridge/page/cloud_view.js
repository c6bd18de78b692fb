// The cloud on the page: turned, moved and zoomed by mouse, touch and keys.

import { CloudRenderer } from "./cloud_renderer.js";
import { follow } from "./gestures.js";
import { drawNumbers } from "./numbers.js";
import { Pace } from "./pace.js";
import { clipMatrix, lensOf, moved, seen, turned, viewOf, zoomed } from "./pose.js";
import { scaleOf, sceneOf, sizeOf } from "./scene.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 * @typedef {import("./pose.js").Pose} Pose
 * @typedef {import("./pose.js").Scene} Scene
 * @typedef {import("./pose.js").Vector} Vector
 * @typedef {import("./scene.js").Scale} Scale
 */

const RADIANS_PER_PIXEL = 0.006;
const KEY_STEP = Math.PI / 24;
const KEY_PIXELS = 40;
const KEY_ZOOM = 1.15;
const MAX_PIXEL_RATIO = 2;
const MAX_POINTS = 2_000_000; // of a cloud at rest; a larger one leaves pixels out
const REST_MS = 200; // without a change: the cloud rests, and all of it is drawn

/** What each key does to a pose; with Shift, arrows move. @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @type {Scale} */
const NO_SCALE = { lines: new Float32Array(), edges: [], middle: [0, 0, 0] };
let groups = 0; // of radio buttons so far: each view has its own

export class CloudView {
  /** @param {HTMLElement} root the figure, as the template `cloud` has it */
  constructor(root) {
    this.canvas = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas.points"));
    this.numbers = /** @type {HTMLCanvasElement} */ (root.querySelector("canvas.numbers"));
    this.notice = /** @type {HTMLElement} */ (root.querySelector(".notice"));
    this.byDepth = /** @type {HTMLInputElement} */ (root.querySelector("input[value=depth]"));
    this.hasScale = /** @type {HTMLInputElement} */ (root.querySelector("input.scale"));
    /** @type {Pose | null} */
    this.pose = null;
    /** @type {Scene | null} */
    this.scene = null;
    /** @type {Scale} */
    this.scale = NO_SCALE;
    /** @type {{depth: Depth, picture: TexImageSource, camera: Intrinsics} | null} */
    this.shown = null;
    this.pace = new Pace();
    this.isDue = false;
    this.changedMs = 0;
    this.resting = 0; // the timer until it rests
    const choices = /** @type {NodeListOf<HTMLInputElement>} */ (root.querySelectorAll("input[type=radio]"));
    const group = `colours-${++groups}`;
    for (const choice of choices) choice.name = group;
    choices[0].checked = true;
    this.start();
    this.listen(root);
  }

  start() {
    try {
      this.renderer = new CloudRenderer(this.canvas);
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  /**
   * Show a cloud. The pose stays as it is unless there was none.
   * @param {Depth} depth
   * @param {TexImageSource} picture
   * @param {Intrinsics} camera
   */
  show(depth, picture, camera) {
    this.scene = null;
    this.showLive(depth, picture, camera);
  }

  /**
   * Show the next frame of a cloud that changes; its scale stays.
   * @param {Depth} depth
   * @param {TexImageSource} picture
   * @param {Intrinsics} camera
   */
  showLive(depth, picture, camera) {
    if (!this.renderer) return;
    if (Math.max(depth.width, depth.height) > this.renderer.maxSide) {
      this.clear(`This browser draws clouds of up to ${this.renderer.maxSide} pixels a side.`);
      return;
    }
    if (this.shown?.depth !== depth) this.renderer.setDepth(depth);
    if (this.shown?.picture !== picture) this.renderer.setPicture(picture);
    this.shown = { depth, picture, camera };
    if (!this.scene?.points.length) this.measure(this.shown);
    this.redraw();
  }

  /** Take the extent of what is shown, and the scale that fits. @param {{depth: Depth, camera: Intrinsics}} shown */
  measure({ depth, camera }) {
    this.scene = sceneOf(depth, camera);
    this.scale = scaleOf(this.scene, depth.kind === "metric" ? " m" : "");
    this.pose ??= viewOf(this.scene, "oblique", this.lens());
    this.say(this.scene.points.length ? "" : "No pixel has a depth.");
  }

  /** Show words instead of a cloud. @param {string} words nothing: the cloud again */
  say(words) {
    this.notice.textContent = words;
    this.notice.hidden = !words;
  }

  /** Forget cloud and pose. @param {string} [words] shown in their place */
  clear(words = "") {
    this.shown = this.scene = this.pose = null;
    this.say(words);
    this.redraw();
  }

  /** Look from a named view. @param {keyof typeof import("./pose.js").VIEWS} name */
  look(name) {
    if (!this.shown) return;
    this.measure(this.shown);
    if (this.scene) this.take(viewOf(this.scene, name, this.lens()));
  }

  /** @param {Pose} pose */
  take(pose) {
    this.pose = pose;
    this.redraw();
  }

  lens() {
    return lensOf(this.canvas.clientWidth, this.canvas.clientHeight);
  }

  /** Pixels of the page that one unit at the target spans. @param {Pose} pose */
  pixelsPerUnit(pose) {
    return this.canvas.clientHeight / 2 / this.lens().y / pose.distance;
  }

  /** Something changed: draw before the browser paints next, once, and all of it when changes have stopped. */
  redraw() {
    this.changedMs = performance.now();
    this.canvas.dataset.state = "moving";
    this.drawSoon();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.drawSoon(), REST_MS);
  }

  drawSoon() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.draw();
    });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.renderer || !width || !height) return;
    const ratio = Math.min(devicePixelRatio, MAX_PIXEL_RATIO);
    for (const canvas of [this.canvas, this.numbers]) fit(canvas, Math.round(width * ratio), Math.round(height * ratio));
    const style = getComputedStyle(this.canvas);
    const scale = this.hasScale.checked ? this.scale : NO_SCALE;
    if (this.shown && this.scene && this.pose) {
      const every = this.every(this.shown.depth);
      const points = this.renderer.draw({
        matrix: clipMatrix(this.pose, this.lens(), sizeOf(this.scene)),
        focal: (height * ratio) / 2 / this.lens().y,
        camera: this.shown.camera,
        every,
        byDepth: this.byDepth.checked,
        lines: scale.lines,
        lineColour: premultiplied(style.getPropertyValue("--grid")),
      });
      this.pace.measure(this.renderer.gl, points);
      this.tell(every);
    } else this.renderer.gl.clear(this.renderer.gl.COLOR_BUFFER_BIT);
    drawNumbers(this.numbers, scale, (point) => this.place(point), style, ratio);
  }

  /** Let others see what was drawn. @param {number} every */
  tell(every) {
    const { yaw, pitch, distance, target } = /** @type {Pose} */ (this.pose);
    const { dataset } = this.canvas;
    dataset.pose = [yaw, pitch, distance, ...target].join(" ");
    dataset.every = String(every);
    dataset.drawn = String(Number(dataset.drawn ?? 0) + 1);
    dataset.state = this.isMoving ? "moving" : "resting";
  }

  get isMoving() {
    return performance.now() - this.changedMs < REST_MS;
  }

  /** Where a point is on the canvas, in pixels of the page, and how far away; null behind the viewer. @param {Vector} point */
  place(point) {
    if (!this.pose || !this.shown) return null;
    const [right, down, away] = seen(this.pose, point);
    const pixels = (this.pixelsPerUnit(this.pose) * this.pose.distance) / away;
    const [x, y] = [this.canvas.clientWidth / 2 + right * pixels, this.canvas.clientHeight / 2 + down * pixels];
    return away > this.pose.distance / 100 ? { x, y, away } : null;
  }

  /** Pixels between the points to draw now. @param {Depth} depth */
  every(depth) {
    const points = depth.width * depth.height;
    const atRest = Math.ceil(Math.sqrt(points / MAX_POINTS));
    return this.isMoving ? Math.max(atRest, this.pace.every(points)) : atRest;
  }

  /** @param {HTMLElement} root */
  listen(root) {
    follow(this.canvas, {
      turn: (x, y) => this.change((pose) => turned(pose, x * RADIANS_PER_PIXEL, y * RADIANS_PER_PIXEL)),
      move: (x, y) => this.change((pose) => moved(pose, x / this.pixelsPerUnit(pose), y / this.pixelsPerUnit(pose))),
      zoom: (factor) => this.change((pose) => zoomed(pose, factor)),
    });
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    for (const control of root.querySelectorAll("input")) control.addEventListener("change", () => this.redraw());
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (root.querySelectorAll("button[data-view]"))) {
      button.addEventListener("click", () => this.look(/** @type {"front"} */ (button.dataset.view)));
    }
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.start();
      const shown = this.shown;
      this.shown = null;
      if (shown) this.show(shown.depth, shown.picture, shown.camera);
    });
  }

  /** @param {(pose: Pose) => Pose} how */
  change(how) {
    if (this.pose) this.take(how(this.pose));
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) {
      const pixels = arrow.map((way) => way * KEY_PIXELS);
      this.change((pose) => moved(pose, pixels[0] / this.pixelsPerUnit(pose), pixels[1] / this.pixelsPerUnit(pose)));
    } else if (arrow) this.change((pose) => turned(pose, arrow[0] * KEY_STEP, arrow[1] * KEY_STEP));
    else if (event.key === "+" || event.key === "=") this.change((pose) => zoomed(pose, KEY_ZOOM));
    else if (event.key === "-") this.change((pose) => zoomed(pose, 1 / KEY_ZOOM));
    else if (event.key === "Home") this.look("oblique");
    else return;
    event.preventDefault();
  }
}

/** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
function fit(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}

/** `r g b a`, each 0 to 1, as the style sheet has it. @param {string} text @returns {[number, number, number, number]} */
function premultiplied(text) {
  const [red, green, blue, alpha] = text.trim().split(/\s+/).map(Number);
  return [red * alpha, green * alpha, blue * alpha, alpha];
}
