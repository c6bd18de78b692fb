// From where a cloud is looked at. Poses are plain values; each function returns a new one.
//
// The frame is the camera's: x right, y down, z forward. A viewer looks at `target` from `distance` away. Yaw turns
// it to the left of the target, pitch above it; with both 0 it looks along z.

/**
 * @typedef {[number, number, number]} Vector
 *
 * @typedef {object} Pose
 * @property {Vector} target
 * @property {number} yaw in radians
 * @property {number} pitch in radians
 * @property {number} distance from the eye to the target
 *
 * @typedef {object} Lens
 * @property {number} x tangent of half the field of view, across
 * @property {number} y the same, up and down
 *
 * @typedef {object} Scene
 * @property {Vector[]} points some of the cloud's
 * @property {Vector} centre
 * @property {Vector} lowest
 * @property {Vector} highest
 */

const HALF_FIELD = Math.tan((50 * Math.PI) / 360); // of the shorter side of the view
const MAX_PITCH = Math.PI / 2 - 0.001;
const FITTED = 0.99; // of the points; the rest may lie outside
const MARGIN = 1.12; // for the numbers around it

/** Named views: yaw and pitch in degrees. */
export const VIEWS = { front: [0, 0], oblique: [28, 22], top: [0, 89.9] };

/** What a view of this size spans. @param {number} width @param {number} height @returns {Lens} */
export function lensOf(width, height) {
  const shorter = Math.min(width, height) || 1;
  return { x: (HALF_FIELD * width) / shorter, y: (HALF_FIELD * height) / shorter };
}

/**
 * A named view of a scene. "front" is the camera's own, farther back where that would not show everything.
 * @param {Scene} scene
 * @param {keyof typeof VIEWS} name
 * @param {Lens} lens
 * @returns {Pose}
 */
export function viewOf(scene, name, lens) {
  const [yaw, pitch] = VIEWS[name].map((degrees) => (degrees * Math.PI) / 180);
  if (name === "front") {
    const target = /** @type {Vector} */ ([0, 0, scene.centre[2]]);
    const pose = { target, yaw, pitch, distance: target[2] };
    return { ...pose, distance: Math.max(target[2], fittingDistance(pose, scene, lens)) };
  }
  const pose = { target: scene.centre, yaw, pitch, distance: 1 };
  return { ...pose, distance: fittingDistance(pose, scene, lens) * MARGIN };
}

/** @param {Pose} pose @param {Scene} scene @param {Lens} lens */
function fittingDistance(pose, scene, lens) {
  const centred = { ...pose, distance: 0 };
  const needed = (/** @type {Vector} */ point) => {
    const [x, y, z] = seen(centred, point);
    return Math.max(Math.abs(x) / lens.x, Math.abs(y) / lens.y) - z;
  };
  const ofPoints = scene.points.map(needed).sort((a, b) => a - b);
  const ofFloor = pose.pitch ? floorOf(scene).map(needed) : [];
  return Math.max(ofPoints[Math.floor((ofPoints.length - 1) * FITTED)] ?? 1, ...ofFloor, 1e-3);
}

/** The corners of the floor under a scene. @param {Scene} scene @returns {Vector[]} */
function floorOf({ lowest, highest }) {
  const [xs, zs] = [0, 2].map((axis) => [lowest[axis], highest[axis]]);
  return xs.flatMap((x) => zs.map((z) => /** @type {Vector} */ ([x, highest[1], z])));
}

/** @param {Pose} pose @param {number} yaw @param {number} pitch both in radians @returns {Pose} */
export function turned(pose, yaw, pitch) {
  const limited = Math.min(MAX_PITCH, Math.max(-MAX_PITCH, pose.pitch + pitch));
  return { ...pose, yaw: pose.yaw + yaw, pitch: limited };
}

/** Move the scene across the view, in units of the scene at the target. @param {Pose} pose @param {number} x @param {number} y @returns {Pose} */
export function moved(pose, x, y) {
  const [right, down] = axes(pose);
  const target = /** @type {Vector} */ (pose.target.map((value, axis) => value - right[axis] * x - down[axis] * y));
  return { ...pose, target };
}

/** @param {Pose} pose @param {number} factor above 1 goes nearer @returns {Pose} */
export function zoomed(pose, factor) {
  return { ...pose, distance: pose.distance / factor };
}

/** The viewer's right, down and forward in the cloud's frame. @param {Pose} pose @returns {[Vector, Vector, Vector]} */
export function axes({ yaw, pitch }) {
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  return [
    [cy, 0, -sy],
    [-sy * sp, cp, -cy * sp],
    [sy * cp, sp, cy * cp],
  ];
}

/** A point as the viewer sees it: right, down and forward of the eye. @param {Pose} pose @param {Vector} point @returns {Vector} */
export function seen(pose, point) {
  const away = point.map((value, axis) => value - pose.target[axis]);
  const [x, y, z] = axes(pose).map((axis) => axis[0] * away[0] + axis[1] * away[1] + axis[2] * away[2]);
  return [x, y, z + pose.distance];
}

/**
 * The matrix that takes points to clip space, column by column for WebGL.
 * @param {Pose} pose
 * @param {Lens} lens
 * @param {number} size of the scene
 * @returns {Float32Array}
 */
export function clipMatrix(pose, lens, size) {
  const near = pose.distance / 100;
  const far = pose.distance + 10 * size;
  const [right, down, forward] = axes(pose);
  const rows = [
    scaled(right, 1 / lens.x, pose.target, 0),
    scaled(down, -1 / lens.y, pose.target, 0),
    scaled(forward, (far + near) / (far - near), pose.target, pose.distance),
    scaled(forward, 1, pose.target, pose.distance),
  ];
  rows[2][3] -= (2 * far * near) / (far - near);
  return Float32Array.from({ length: 16 }, (_, at) => rows[at % 4][at >> 2]);
}

/** One row of the matrix: factor * (axis . (point - target) + offset). @param {Vector} axis @param {number} factor @param {Vector} target @param {number} offset */
function scaled(axis, factor, target, offset) {
  const shift = offset - (axis[0] * target[0] + axis[1] * target[1] + axis[2] * target[2]);
  return [...axis, shift].map((value) => value * factor);
}
