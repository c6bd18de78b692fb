// What surrounds a cloud: its extent, and the scale that is drawn beside it.

import { ticks, tickText } from "./depth.js";
import { backProject } from "./intrinsics.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 * @typedef {import("./pose.js").Scene} Scene
 * @typedef {import("./pose.js").Vector} Vector
 *
 * @typedef {{lines: Float32Array, labels: {point: Vector, text: string}[]}} Scale
 */

const SAMPLES = 4000;
const OUTSIDE = 0.005; // share of the points that may lie outside the box, on each side

/** Some points of a cloud and the box around nearly all. @param {Depth} depth @param {Intrinsics} camera @returns {Scene} */
export function sceneOf(depth, camera) {
  /** @type {Vector[]} */
  const points = [];
  const stride = Math.max(1, Math.round(Math.sqrt((depth.width * depth.height) / SAMPLES)));
  for (let v = stride >> 1; v < depth.height; v += stride) {
    for (let u = stride >> 1; u < depth.width; u += stride) {
      const z = depth.values[v * depth.width + u];
      if (z > 0 && z < Infinity) points.push(backProject(camera, u, v, z));
    }
  }
  const sides = [0, 1, 2].map((axis) => Float32Array.from(points, (point) => point[axis]).sort());
  const at = (/** @type {number} */ share) =>
    /** @type {Vector} */ (sides.map((side) => side[Math.round((side.length - 1) * share)] ?? 0));
  const [lowest, highest] = [at(OUTSIDE), at(1 - OUTSIDE)];
  const centre = /** @type {Vector} */ (lowest.map((low, axis) => (low + highest[axis]) / 2));
  return { points, centre, lowest, highest };
}

/** The longest side of the box. @param {Scene} scene */
export function sizeOf({ lowest, highest }) {
  return Math.max(...highest.map((high, axis) => high - lowest[axis]), 1e-3);
}

/**
 * A floor of squares below the cloud and a post at its far left, both with numbers.
 * @param {Scene} scene
 * @param {string} unit after the numbers: " m", or nothing
 * @returns {Scale}
 */
export function scaleOf(scene, unit) {
  const { step } = ticks(0, sizeOf(scene), 8);
  const [left, top, near] = scene.lowest.map((low) => Math.floor(low / step + 1e-6));
  const [right, floor, far] = scene.highest.map((high) => Math.ceil(high / step - 1e-6));
  /** @type {number[]} */
  const ends = [];
  /** @type {Scale["labels"]} */
  const labels = [];
  const label = (/** @type {string} */ axis, /** @type {number} */ at, /** @type {Vector} */ point) =>
    labels.push({ point: scaled(point, step), text: `${axis} ${tickText(at * step, step)}${unit}` });
  for (let x = left; x <= right; x++) {
    ends.push(x, floor, near, x, floor, far);
    label("x", x, [x, floor, near]);
  }
  for (let z = near; z <= far; z++) {
    ends.push(left, floor, z, right, floor, z);
    label("z", z, [right, floor, z]);
  }
  ends.push(left, floor, far, left, top, far);
  for (let y = top; y < floor; y++) {
    ends.push(left, y, far, left + 0.2, y, far);
    label("y", y, [left, y, far]);
  }
  return { lines: Float32Array.from(ends, (end) => end * step), labels };
}

/** @param {Vector} point @param {number} factor */
function scaled(point, factor) {
  return /** @type {Vector} */ (point.map((value) => value * factor));
}
