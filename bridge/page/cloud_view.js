// The cloud on the page: turned, moved and zoomed by mouse, touch and keys.

import { CloudRenderer } from "./cloud_renderer.js";
import { follow } from "./gestures.js";
import { clipMatrix, lensOf, moved, seen, turned, viewOf, zoomed } from "./pose.js";
import { scaleOf, sceneOf, sizeOf } from "./scene.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 * @typedef {import("./pose.js").Pose} Pose
 * @typedef {import("./pose.js").Scene} Scene
 * @typedef {import("./scene.js").Scale} Scale
 */

const RADIANS_PER_PIXEL = 0.006;
const KEY_STEP = Math.PI / 24;
const KEY_PIXELS = 40;
const KEY_ZOOM = 1.15;
const MAX_PIXEL_RATIO = 2;

/** What each key does to a pose; with Shift, arrows move. @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

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
    this.scale = { lines: new Float32Array(), labels: [] };
    /** @type {{depth: Depth, picture: TexImageSource, camera: Intrinsics} | null} */
    this.shown = null;
    this.frames = 0;
    this.isDue = false;
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
    if (!this.renderer) return;
    if (Math.max(depth.width, depth.height) > this.renderer.maxSide) {
      this.say(`This browser draws clouds of up to ${this.renderer.maxSide} pixels a side.`);
      return;
    }
    if (this.shown?.depth !== depth) this.renderer.setDepth(depth);
    if (this.shown?.picture !== picture) this.renderer.setPicture(picture);
    this.shown = { depth, picture, camera };
    this.scene = sceneOf(depth, camera);
    this.scale = scaleOf(this.scene, depth.kind === "metric" ? " m" : "");
    this.pose ??= viewOf(this.scene, "oblique", this.lens());
    this.say(this.scene.points.length ? "" : "No pixel has a depth.");
    this.redraw();
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

  /** Draw before the browser paints next, once. */
  redraw() {
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
    const hasScale = this.hasScale.checked;
    if (!this.shown || !this.scene || !this.pose) {
      this.renderer.gl.clear(this.renderer.gl.COLOR_BUFFER_BIT);
    } else {
      this.renderer.draw({
        matrix: clipMatrix(this.pose, this.lens(), sizeOf(this.scene)),
        focal: (height * ratio) / 2 / this.lens().y,
        camera: this.shown.camera,
        byDepth: this.byDepth.checked,
        lines: hasScale ? this.scale.lines : new Float32Array(),
        lineColour: premultiplied(style.getPropertyValue("--grid")),
      });
    }
    this.drawNumbers(hasScale ? this.scale.labels : [], ratio, style.color);
    this.frames++;
  }

  /** @param {Scale["labels"]} labels @param {number} ratio @param {string} colour */
  drawNumbers(labels, ratio, colour) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.numbers.getContext("2d"));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.numbers.width, this.numbers.height);
    if (!this.pose || !this.shown) return;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const [width, height, perUnit] = [this.canvas.clientWidth, this.canvas.clientHeight, this.pixelsPerUnit(this.pose)];
    /** @type {[number, number][]} */
    const taken = [];
    for (const { point, text } of labels) {
      const [right, down, forward] = seen(this.pose, point);
      if (forward <= this.pose.distance / 100) continue;
      const pixels = (perUnit * this.pose.distance) / forward;
      const [x, y] = [width / 2 + right * pixels, height / 2 + down * pixels + 9];
      if (taken.some(([otherX, otherY]) => Math.abs(x - otherX) < 44 && Math.abs(y - otherY) < 14)) continue;
      taken.push([x, y]);
      context.fillText(text, x, y);
    }
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
