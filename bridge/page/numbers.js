// The numbers of a cloud's scale, over the cloud.

/**
 * @typedef {import("./pose.js").Vector} Vector
 * @typedef {import("./scene.js").Label} Label
 * @typedef {import("./scene.js").Scale} Scale
 *
 * @typedef {{x: number, y: number, away: number}} Place in pixels of the page; how far from the viewer
 */

const OUTWARDS_PX = 15; // from the line to the middle of its number
const APART_PX = { x: 34, y: 15 };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Scale} scale
 * @param {(point: Vector) => Place | null} place
 * @param {CSSStyleDeclaration} style of the canvas: its colour, and `--well`, what is behind it
 * @param {number} ratio pixels of the canvas for each of the page
 */
export function drawNumbers(canvas, scale, place, style, ratio) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.font = `500 11px ${style.fontFamily}`;
  context.fillStyle = style.color;
  context.strokeStyle = style.getPropertyValue("--well");
  Object.assign(context, { textAlign: "center", textBaseline: "middle", lineWidth: 3, lineJoin: "round" });
  const middle = place(scale.middle) ?? { x: 0, y: 0, away: 0 };
  /** @type {{x: number, y: number}[]} */
  const taken = [];
  for (const group of scale.edges) {
    for (const { text, at } of nearest(group, place)) {
      const away = Math.hypot(at.x - middle.x, at.y - middle.y) || 1;
      const x = at.x + ((at.x - middle.x) / away) * OUTWARDS_PX;
      const y = at.y + ((at.y - middle.y) / away) * OUTWARDS_PX;
      if (taken.some((other) => Math.abs(x - other.x) < APART_PX.x && Math.abs(y - other.y) < APART_PX.y)) continue;
      taken.push({ x, y });
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    }
  }
}

/** The numbers of the edge that is nearest to the viewer, placed. @param {Label[][]} edges @param {(point: Vector) => Place | null} place */
function nearest(edges, place) {
  const placed = edges.map((labels) =>
    labels.flatMap(({ point, text }) => {
      const at = place(point);
      return at ? [{ text, at }] : [];
    }),
  );
  const away = (/** @type {{at: Place}[]} */ labels) => Math.max(...labels.map(({ at }) => at.away));
  return placed.reduce((best, labels) => (labels.length && away(labels) < away(best) ? labels : best));
}
