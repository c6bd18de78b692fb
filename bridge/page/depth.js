// What depth is: its values, its kind, and how a value reads. Nothing here touches the page.

/**
 * @typedef {"metric" | "relative" | "scale_invariant"} Kind
 *
 * @typedef {object} Depth
 * @property {Float32Array} values row by row, as the server sent them: metres, or without a unit. NaN is invalid,
 *   +Infinity the sky.
 * @property {number} width in pixels
 * @property {number} height in pixels
 * @property {Kind} kind
 * @property {number} lowest smallest finite value
 * @property {number} highest largest finite value
 */

/** What each kind is called where no number stands beside it. @type {Record<Kind, string>} */
export const KIND_NAMES = {
  metric: "depth in metres",
  relative: "relative inverse depth: no unit, larger is nearer",
  scale_invariant: "depth up to an unknown factor: no unit",
};

/** Smallest and largest finite value; both NaN where there is none. @param {Float32Array} values */
export function finiteRange(values) {
  let lowest = Infinity;
  let highest = -Infinity;
  for (const value of values) {
    if (value < lowest && value > -Infinity) lowest = value;
    if (value > highest && value < Infinity) highest = value;
  }
  return lowest <= highest ? { lowest, highest } : { lowest: NaN, highest: NaN };
}

/** The colour range: what is shown as nearest, then as farthest. @param {Depth} depth @returns {[number, number]} */
export function nearAndFar(depth) {
  return depth.kind === "relative" ? [depth.highest, depth.lowest] : [depth.lowest, depth.highest];
}

/** A value as people read it. @param {number} value @param {Kind} kind */
export function describe(value, kind) {
  if (Number.isNaN(value)) return "no value";
  if (value === Infinity) return kind === "metric" ? "beyond range" : "infinitely far";
  if (value === -Infinity) return "too close";
  return kind === "metric" ? `${value.toFixed(3)} m` : value.toPrecision(4);
}

/**
 * Round numbers within a range, 1, 2 or 5 times a power of ten apart.
 * @param {number} lowest
 * @param {number} highest
 * @param {number} count about how many
 * @returns {{step: number, values: number[]}}
 */
export function ticks(lowest, highest, count) {
  const span = highest - lowest;
  if (!(span > 0) || !Number.isFinite(span)) return { step: 1, values: Number.isFinite(lowest) ? [lowest] : [] };
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = power * ([1, 2, 5].find((factor) => span / (factor * power) <= count) ?? 10);
  const first = Math.ceil(lowest / step - 1e-6);
  const last = Math.floor(highest / step + 1e-6);
  return { step, values: Array.from({ length: last - first + 1 }, (_, turn) => (first + turn) * step) };
}

/** A tick's number with as many digits as its step needs. @param {number} value @param {number} step */
export function tickText(value, step) {
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}
