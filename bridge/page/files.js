// Depth and clouds as files, made here from the depth that came: the same bytes as the server's own.

import { backProject } from "./intrinsics.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 */

const UINT16_LEVELS = 65536;

/** A NumPy file of float32 (H, W). @param {Depth} depth */
export function npyFile({ values, width, height }) {
  const fields = `{'descr': '<f4', 'fortran_order': False, 'shape': (${height}, ${width}), }`;
  const padded = fields.padEnd(Math.ceil((fields.length + 11) / 64) * 64 - 11) + "\n";
  const head = new Uint8Array(10);
  head.set([0x93, ...ascii("NUMPY"), 1, 0]);
  new DataView(head.buffer).setUint16(8, padded.length, true);
  return new Blob([head, padded, /** @type {Float32Array<ArrayBuffer>} */ (values)], { type: "application/x-npy" });
}

/**
 * Levels a metre of a 16-bit PNG: millimetres where the depth fits, else a power of ten coarser.
 * @param {Depth} depth
 */
export function pngScale({ highest }) {
  return [1000, 100, 10, 1].find((scale) => highest * scale < UINT16_LEVELS - 1) ?? 1;
}

/**
 * A 16-bit grey PNG, depth times `scale`, 0 = no value.
 * @param {Depth} depth metric
 * @param {number} scale levels a metre
 */
export async function pngFile({ values, width, height }, scale) {
  const rowBytes = 1 + 2 * width;
  const raw = new Uint8Array(rowBytes * height);
  const view = new DataView(raw.buffer);
  for (let v = 0, at = 0; v < height; v++) {
    for (let u = 0; u < width; u++, at++) {
      const level = Math.fround(Math.fround(values[at] * scale) + 0.5);
      if (level >= 0.5 && level < UINT16_LEVELS) view.setUint16(v * rowBytes + 1 + 2 * u, level);
    }
  }
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  new Uint8Array(head.buffer).set([16, 0, 0, 0, 0], 8); // bits, grey, deflate, filters of rows, not interlaced
  const packed = new Blob([differencesOfRows(raw, rowBytes)]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());
  const chunks = [chunk("IHDR", new Uint8Array(head.buffer)), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob([new Uint8Array([0x89, ...ascii("PNG\r\n\x1a\n")]), ...chunks], { type: "image/png" });
}

/** PNG's filter "up": each byte less the one above it. @param {Uint8Array} raw @param {number} rowBytes */
function differencesOfRows(raw, rowBytes) {
  const filtered = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) filtered[at] = raw[at] - (at < rowBytes ? 0 : raw[at - rowBytes]);
  for (let row = 0; row < raw.length; row += rowBytes) filtered[row] = 2;
  return filtered;
}

/** @param {string} kind @param {Uint8Array} data */
function chunk(kind, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(ascii(kind), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = CRC_TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/**
 * Points with a depth as a binary PLY, with the picture's colours.
 * @param {Depth} depth metric
 * @param {Intrinsics} camera
 * @param {ImageData} picture of the depth's size
 */
export function plyFile({ values, width, height }, camera, picture) {
  const POINT_BYTES = 15;
  const bytes = new Uint8Array(POINT_BYTES * values.length);
  const view = new DataView(bytes.buffer);
  let count = 0;
  for (let v = 0, at = 0; v < height; v++) {
    for (let u = 0; u < width; u++, at++) {
      if (!Number.isFinite(values[at])) continue;
      const start = POINT_BYTES * count++;
      backProject(camera, u, v, values[at]).forEach((value, axis) => view.setFloat32(start + 4 * axis, value, true));
      bytes.set(picture.data.subarray(4 * at, 4 * at + 3), start + 12);
    }
  }
  const properties = ["x", "y", "z"].map((name) => `property float ${name}\n`);
  const colours = ["red", "green", "blue"].map((name) => `property uchar ${name}\n`);
  const format = `ply\nformat binary_little_endian 1.0\nelement vertex ${count}\n`;
  const head = `${format}${[...properties, ...colours].join("")}end_header\n`;
  return new Blob([head, bytes.subarray(0, POINT_BYTES * count)], { type: "application/x-ply" });
}

/** @param {string} text */
function ascii(text) {
  return Array.from(text, (letter) => letter.charCodeAt(0));
}

/** Let the browser save a file. @param {Blob} file @param {string} name */
export function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
