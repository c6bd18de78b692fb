// Mouse and touch on an element, as turning, moving and zooming.

/**
 * @typedef {object} Gestures
 * @property {(x: number, y: number) => void} turn by pixels: a drag
 * @property {(x: number, y: number) => void} move by pixels: a drag with Shift or another button, or of two fingers
 * @property {(factor: number) => void} zoom above 1 goes nearer: the wheel, or two fingers
 */

const ZOOM_PER_PIXEL = 0.0015;
const PIXELS_PER_LINE = 30; // where a wheel counts in lines

/** @param {HTMLElement} element @param {Gestures} gestures */
export function follow(element, gestures) {
  /** Pointers that are down: where they were last. @type {Map<number, PointerEvent>} */
  const down = new Map();

  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
  });
  for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
    element.addEventListener(end, (event) => down.delete(event.pointerId));
  }
  element.addEventListener("pointermove", (event) => {
    const last = down.get(event.pointerId);
    if (!last) return;
    const other = [...down.values()].find((each) => each.pointerId !== event.pointerId);
    const [x, y] = [event.clientX - last.clientX, event.clientY - last.clientY];
    if (other) {
      gestures.zoom(apart(event, other) / (apart(last, other) || 1));
      gestures.move(x / 2, y / 2);
    } else if (event.shiftKey || event.buttons > 1) gestures.move(x, y);
    else gestures.turn(x, y);
    down.set(event.pointerId, event);
  });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * PIXELS_PER_LINE : event.deltaY;
      gestures.zoom(Math.exp(-pixels * ZOOM_PER_PIXEL));
    },
    { passive: false },
  );
}

/** @param {PointerEvent} one @param {PointerEvent} other */
function apart(one, other) {
  return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
}
