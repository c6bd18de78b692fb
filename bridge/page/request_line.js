// What is asked for, as a path with its query and as a line for a shell.

/**
 * @typedef {import("./server.js").Model} Model
 *
 * @typedef {object} CameraInput as it was typed
 * @property {"fov" | "pinhole" | "estimate"} knownBy
 * @property {string} fov_deg
 * @property {string} fx
 * @property {string} fy
 * @property {string} cx
 * @property {string} cy
 *
 * @typedef {object} Request
 * @property {Model} model
 * @property {string} maxDepth empty: the model's own
 * @property {string} inputSize empty: the model's own
 * @property {CameraInput} camera
 */

/** Path and query below the server's own; the server checks the values. @param {Request} request */
export function pathOf({ model, maxDepth, inputSize, camera }) {
  const query = new URLSearchParams({ encoder: model.encoder, dataset: model.dataset });
  if (inputSize) query.set("model_input_size", inputSize);
  if (maxDepth && model.max_depth !== null) query.set("max_depth", maxDepth);
  if (model.needs_focal) {
    const names = camera.knownBy === "pinhole" ? /** @type {const} */ (["fx", "fy", "cx", "cy"]) : /** @type {const} */ (["fov_deg"]);
    for (const name of names) query.set(name, camera[name]);
  }
  return `${model.kind === "metric" ? "metric_depth" : "rel_depth"}?${query}`;
}

/**
 * A line for a POSIX shell that gets the same depth as a NumPy file.
 * @param {string} path as of `pathOf`
 * @param {{name: string, type: string}} picture
 * @param {boolean} needsKey the line then reads it from $KEY
 */
export function curlLine(path, picture, needsKey) {
  const parts = [
    "curl --fail-with-body",
    needsKey ? '-H "Authorization: Bearer $KEY"' : "",
    `-H ${quoted(`Content-Type: ${picture.type || "application/octet-stream"}`)} -H 'Accept: application/x-npy'`,
    `--data-binary ${quoted(`@${picture.name}`)}`,
    quoted(new URL(path, document.baseURI).href),
    "-o depth.npy",
  ];
  return parts.filter(Boolean).join(" \\\n  ");
}

/** @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
