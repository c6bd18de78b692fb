// The camera of a picture: focal lengths and principal point, and the rays of its pixels.

/**
 * A pinhole camera in pixels of the picture; (0, 0) is the centre of the top left pixel.
 * @typedef {{fx: number, fy: number, cx: number, cy: number}} Intrinsics
 *
 * @typedef {{width: number, height: number}} Size
 */

/** Principal point in the middle. @param {number} focalPx @param {Size} size @returns {Intrinsics} */
export function fromFocal(focalPx, { width, height }) {
  return { fx: focalPx, fy: focalPx, cx: (width - 1) / 2, cy: (height - 1) / 2 };
}

/** The longer side spans the field of view. @param {number} degrees @param {Size} size @returns {Intrinsics} */
export function fromFieldOfView(degrees, size) {
  const halfSide = Math.tan((degrees * Math.PI) / 360);
  return fromFocal(Math.max(size.width, size.height) / 2 / halfSide, size);
}

/**
 * A pixel at a depth as a point: x right, y down, z forward.
 * @param {Intrinsics} camera
 * @param {number} u
 * @param {number} v
 * @param {number} z
 * @returns {[number, number, number]}
 */
export function backProject(camera, u, v, z) {
  return [((u - camera.cx) / camera.fx) * z, ((v - camera.cy) / camera.fy) * z, z];
}
