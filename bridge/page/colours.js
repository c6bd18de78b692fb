// Depth as colours: near red, far blue, invalid black, as the node's own colour picture.

import { nearAndFar } from "./depth.js";

/** @typedef {import("./depth.js").Depth} Depth */

// The Turbo colour map at every 15th level, far first; the levels between are interpolated.
const STOPS =
  "30123b 3f3e9c 4666dd 458cfd 2fb2f4 1ad4d0 22ebaa 52fa7a 8bff4b b7f735 dbe236 f5c53a fea130 f9751d e84b0c ce2d04 a91601 7a0403"
    .split(" ")
    .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const LEVELS_APART = 15;

/** 256 levels of red, green, blue and alpha: level 0 is the farthest. */
export const PALETTE = new Uint8ClampedArray(256 * 4);
for (let level = 0; level < 256; level++) {
  const before = Math.min(Math.floor(level / LEVELS_APART), STOPS.length - 2);
  const part = level / LEVELS_APART - before;
  for (let channel = 0; channel < 3; channel++) {
    PALETTE[4 * level + channel] = STOPS[before][channel] * (1 - part) + STOPS[before + 1][channel] * part;
  }
  PALETTE[4 * level + 3] = 255;
}
const COLOURS = new Uint32Array(PALETTE.buffer);
const BLACK = new Uint32Array(new Uint8Array([0, 0, 0, 255]).buffer)[0];

/**
 * Colour depth; pixels between are left out where it is larger than `maxSide`.
 * @param {Depth} depth
 * @param {number} [maxSide] longest side of the picture in pixels
 * @returns {ImageData}
 */
export function paint(depth, maxSide = Infinity) {
  const [near, far] = nearAndFar(depth);
  const perUnit = 255 / (far - near || 1);
  const { width, height } = sizeWithin(depth, maxSide);
  const picture = new ImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const columns = Uint32Array.from({ length: width }, (_, x) => Math.floor(((x + 0.5) * depth.width) / width));
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.floor(((y + 0.5) * depth.height) / height) * depth.width;
    for (let x = 0; x < width; x++, at++) {
      const level = (far - depth.values[row + columns[x]]) * perUnit;
      pixels[at] = Number.isNaN(level) ? BLACK : COLOURS[level <= 0 ? 0 : level >= 255 ? 255 : level | 0];
    }
  }
  return picture;
}

/**
 * The size of a picture whose longest side is to be `maxSide` at most.
 * @param {{width: number, height: number}} picture
 * @param {number} maxSide
 */
export function sizeWithin({ width, height }, maxSide) {
  const factor = Math.min(1, maxSide / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * factor)), height: Math.max(1, Math.round(height * factor)) };
}
