// A stream's message: its header, as docs/robot_cameras.md has it, and its payload.

/**
 * @typedef {import("./depth.js").Kind} Kind
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 *
 * @typedef {object} Frame
 * @property {string} stamp equal for what belongs to one picture
 * @property {number} width
 * @property {number} height
 * @property {Kind | null} kind null: no depth
 * @property {Intrinsics | null} camera null: not calibrated
 * @property {boolean} isBent whether the lens distorts
 * @property {number} lowest finite depth
 * @property {number} highest finite depth
 * @property {number} sequence a gap says how many were skipped
 * @property {ArrayBuffer} message
 * @property {number} start of the payload
 * @property {number} length of the payload, in bytes
 */

const MAGIC = 0x31524144; // DAR1
const KINDS = /** @type {const} */ ([null, "metric", "relative", "scale_invariant"]);
const HAS_CAMERA = 1;
const BENDS = 2;

/** @param {ArrayBuffer} message @returns {Frame} @throws {Error} it is none */
export function parseFrame(message) {
  const view = new DataView(message);
  if (message.byteLength < 64 || view.getUint32(0, true) !== MAGIC) throw new Error("The server sent what is no frame.");
  const flags = view.getUint8(25);
  const [fx, fy, cx, cy] = [32, 36, 40, 44].map((at) => view.getFloat32(at, true));
  return {
    stamp: `${view.getInt32(8, true)}.${view.getUint32(12, true)}`,
    width: view.getUint32(16, true),
    height: view.getUint32(20, true),
    kind: KINDS[view.getUint8(24)] ?? null,
    camera: flags & HAS_CAMERA ? { fx, fy, cx, cy } : null,
    isBent: Boolean(flags & BENDS),
    lowest: view.getFloat32(48, true),
    highest: view.getFloat32(52, true),
    sequence: view.getUint32(56, true),
    message,
    start: view.getUint16(4, true),
    length: view.getUint32(60, true),
  };
}
