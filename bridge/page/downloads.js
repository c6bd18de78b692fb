// The files that can be saved, made from the answer that is shown.

import { paint } from "./colours.js";
import { npyFile, plyFile, pngFile, pngScale, save } from "./files.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 * @typedef {import("./picture_tab.js").Picture} Picture
 */

export class Downloads {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.buttons = [.../** @type {NodeListOf<HTMLButtonElement>} */ (root.querySelectorAll("button[data-file]"))];
    this.about = /** @type {HTMLElement} */ (root.querySelector(".about-files"));
    /** How to make each file that there is. @type {Record<string, () => Promise<[Blob, string]> | [Blob, string]>} */
    this.makers = {};
    for (const button of this.buttons) button.addEventListener("click", () => this.make(button.dataset.file ?? ""));
  }

  clear() {
    this.makers = {};
    this.about.textContent = "";
    this.show();
  }

  /** @param {Depth} depth @param {Picture} picture @param {Intrinsics | null} camera */
  offer(depth, picture, camera) {
    const stem = picture.name.replace(/\.\w+$/, "") || "picture";
    const scale = pngScale(depth);
    this.makers = {
      npy: () => [npyFile(depth), `${stem}_depth.npy`],
      colours: async () => [await canvasOf(paint(depth)).convertToBlob({ type: "image/png" }), `${stem}_colours.png`],
      picture: () => [picture.file, picture.name || "picture"],
    };
    if (depth.kind === "metric") {
      this.makers.png = async () => [await pngFile(depth, scale), `${stem}_depth.png`];
      if (camera) this.makers.ply = () => [plyFile(depth, camera, pixelsOf(picture.bitmap)), `${stem}_cloud.ply`];
    }
    this.about.textContent =
      depth.kind === "metric" ? `The PNG has ${scale} levels a metre; 0 is no value.` : "PNG and PLY hold metres, which this depth has not.";
    this.show();
  }

  show() {
    for (const button of this.buttons) button.disabled = !(/** @type {string} */ (button.dataset.file) in this.makers);
  }

  /** @param {string} kind */
  async make(kind) {
    save(...(await this.makers[kind]()));
  }
}

/** @param {ImageData} pixels */
function canvasOf(pixels) {
  const canvas = new OffscreenCanvas(pixels.width, pixels.height);
  /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d")).putImageData(pixels, 0, 0);
  return canvas;
}

/** @param {ImageBitmap} bitmap */
function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
