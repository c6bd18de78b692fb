// A picture and its depth, one over the other, with a divider between; the depth under the cursor; the colour bar.

import { paint, PALETTE, sizeWithin } from "./colours.js";
import { describe, KIND_NAMES, nearAndFar, tickText, ticks } from "./depth.js";

/** @typedef {import("./depth.js").Depth} Depth */

const MAX_SHOWN_SIDE = 2048; // canvases of phones end at 16 megapixels
const ARROWS = /** @type {Record<string, [number, number]>} */ ({
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
});
const LARGE_STEP = 10;

export class CompareView {
  /** @param {HTMLElement} root the figure, as the template `compare` has it */
  constructor(root) {
    const find = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (root.querySelector(selector));
    this.stage = find(".stage");
    this.picture = /** @type {HTMLCanvasElement} */ (find("canvas.picture"));
    this.colours = /** @type {HTMLCanvasElement} */ (find("canvas.depth"));
    this.cross = find(".cross");
    this.readout = find(".readout");
    this.spoken = find(".spoken");
    this.busy = find(".busy");
    this.divider = /** @type {HTMLInputElement} */ (find("input.divider"));
    this.bar = find(".bar");
    this.numbers = find(".bar .numbers");
    this.mark = find(".bar .mark");
    this.meaning = find(".bar .meaning");
    /** @type {Depth | null} */
    this.depth = null;
    /** Column and row that the cursor is at. @type {[number, number] | null} */
    this.cursor = null;
    paintBar(/** @type {HTMLCanvasElement} */ (find(".bar canvas")));
    this.listen();
    this.divide();
  }

  /** Show a picture. @param {CanvasImageSource & {width: number, height: number}} picture */
  showPicture(picture) {
    const { width, height } = sizeWithin(picture, MAX_SHOWN_SIDE);
    Object.assign(this.picture, { width, height });
    this.stage.style.setProperty("--aspect", String(picture.width / picture.height));
    /** @type {CanvasRenderingContext2D} */ (this.picture.getContext("2d")).drawImage(picture, 0, 0, width, height);
  }

  /** Show depth over it. @param {Depth} depth */
  showDepth(depth) {
    const painted = paint(depth, MAX_SHOWN_SIDE);
    Object.assign(this.colours, { width: painted.width, height: painted.height });
    /** @type {CanvasRenderingContext2D} */ (this.colours.getContext("2d")).putImageData(painted, 0, 0);
    this.stage.style.setProperty("--aspect", String(depth.width / depth.height));
    this.depth = depth;
    this.stage.classList.add("has-depth");
    this.showRange(depth);
    this.point(this.cursor);
  }

  /** Take picture and depth away. */
  clear() {
    this.clearDepth();
    this.clearPicture();
  }

  clearPicture() {
    this.picture.width = this.picture.height = 0;
  }

  /** Take the depth away; the picture stays. */
  clearDepth() {
    this.depth = null;
    this.stage.classList.remove("has-depth");
    this.bar.hidden = true;
    this.point(null);
  }

  /** Show that work is going on. @param {string} words nothing: it is done */
  work(words) {
    this.busy.hidden = !words;
    /** @type {HTMLElement} */ (this.busy.querySelector(".words")).textContent = words;
  }

  /** @param {Depth} depth */
  showRange(depth) {
    const [near, far] = nearAndFar(depth);
    const { step, values } = ticks(depth.lowest, depth.highest, 6);
    const unit = depth.kind === "metric" ? " m" : "";
    this.numbers.replaceChildren(
      ...values.map((value) => {
        const number = document.createElement("span");
        number.textContent = tickText(value, step) + unit;
        number.style.left = `${(100 * (value - near)) / (far - near || 1)}%`;
        return number;
      }),
    );
    this.meaning.textContent = KIND_NAMES[depth.kind];
    this.bar.hidden = false;
  }

  /** Read the depth of a pixel. @param {[number, number] | null} pixel @returns {string} what it says */
  point(pixel) {
    const depth = this.depth;
    const isIn = pixel && depth && pixel[0] < depth.width && pixel[1] < depth.height;
    this.cursor = isIn ? pixel : null;
    this.cross.hidden = this.mark.hidden = !isIn;
    if (!isIn) return (this.readout.textContent = "");
    const [u, v] = pixel;
    const value = depth.values[v * depth.width + u];
    const [near, far] = nearAndFar(depth);
    this.cross.style.left = `${(100 * (u + 0.5)) / depth.width}%`;
    this.cross.style.top = `${(100 * (v + 0.5)) / depth.height}%`;
    this.mark.hidden = !Number.isFinite(value);
    this.mark.style.left = `${(100 * (value - near)) / (far - near || 1)}%`;
    const words = `${describe(value, depth.kind)} at ${u}, ${v}`;
    this.readout.textContent = words;
    return words;
  }

  divide() {
    this.stage.style.setProperty("--divided", `${this.divider.value}%`);
  }

  listen() {
    this.divider.addEventListener("input", () => this.divide());
    for (const name of /** @type {const} */ (["pointermove", "pointerdown"])) {
      this.stage.addEventListener(name, (event) => this.point(this.pixelAt(event)));
    }
    this.stage.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.point(null));
    this.stage.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** @param {PointerEvent} event @returns {[number, number] | null} */
  pixelAt(event) {
    if (!this.depth) return null;
    const box = this.picture.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    return [Math.floor(x * this.depth.width), Math.floor(y * this.depth.height)];
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const arrow = ARROWS[event.key];
    if (!arrow || !this.depth || event.target !== this.stage) return;
    event.preventDefault();
    const { width, height } = this.depth;
    const steps = event.shiftKey ? LARGE_STEP : 1;
    const [u, v] = this.cursor ?? [width >> 1, height >> 1];
    const within = (/** @type {number} */ at, /** @type {number} */ size) => Math.min(size - 1, Math.max(0, at));
    this.spoken.textContent = this.point([within(u + arrow[0] * steps, width), within(v + arrow[1] * steps, height)]);
  }
}

/** All colours from near to far. @param {HTMLCanvasElement} canvas */
function paintBar(canvas) {
  Object.assign(canvas, { width: 256, height: 1 });
  const row = new ImageData(256, 1);
  for (let x = 0; x < 256; x++) row.data.set(PALETTE.subarray(4 * (255 - x), 4 * (256 - x)), 4 * x);
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).putImageData(row, 0, 0);
}
