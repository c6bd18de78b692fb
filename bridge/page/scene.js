// What surrounds a cloud: its extent, and the scale that is drawn beside it.

import { ticks, tickText } from "./depth.js";
import { backProject } from "./intrinsics.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 * @typedef {import("./pose.js").Scene} Scene
 * @typedef {import("./pose.js").Vector} Vector
 *
 * @typedef {{point: Vector, text: string}} Label
 *
 * @typedef {object} Scale
 * @property {Float32Array} lines x, y, z of both ends of each line
 * @property {Label[][][]} edges numbered edges; of each group the one nearest to the viewer counts
 * @property {Vector} middle of the floor
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
 * @param {string} unit after the last number of an edge: " m", or nothing
 * @returns {Scale}
 */
export function scaleOf(scene, unit) {
  const { step } = ticks(0, sizeOf(scene), 6);
  const [left, top, near] = scene.lowest.map((low) => Math.floor(low / step + 1e-6));
  const [right, floor, far] = scene.highest.map((high) => Math.ceil(high / step - 1e-6));
  const [xs, ys, zs] = [range(left, right), range(top, floor), range(near, far)];
  const lines = [
    ...xs.flatMap((x) => [x, floor, near, x, floor, far]),
    ...zs.flatMap((z) => [left, floor, z, right, floor, z]),
    ...[left, floor, far, left, top, far],
    ...ys.flatMap((y) => [left, y, far, left + 0.2, y, far]),
  ];
  /** @type {(axis: string, values: number[], at: (value: number) => Vector) => Label[]} */
  const edge = (axis, values, at) =>
    values.map((value) => ({
      point: scaled(at(value), step),
      text: tickText(value * step, step) + (value === values.at(axis === "y" ? 0 : -1) ? `${unit} ${axis}` : ""),
    }));
  const edges = [
    [near, far].map((z) => edge("x", xs, (x) => [x, floor, z])),
    [left, right].map((x) => edge("z", zs, (z) => [x, floor, z])),
    [edge("y", ys.slice(0, -1), (y) => [left, y, far])],
  ];
  const middle = scaled([(left + right) / 2, floor, (near + far) / 2], step);
  return { lines: Float32Array.from(lines, (end) => end * step), edges, middle };
}

/** Whole numbers, both ends included. @param {number} first @param {number} last */
function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, turn) => first + turn);
}

/** @param {Vector} point @param {number} factor */
function scaled(point, factor) {
  return /** @type {Vector} */ (point.map((value) => value * factor));
}
