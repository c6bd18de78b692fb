// A cloud on the GPU, from the depth as it came: a float texture that the vertex shader back-projects.

import { PALETTE } from "./colours.js";
import { nearAndFar } from "./depth.js";

/**
 * @typedef {import("./depth.js").Depth} Depth
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 *
 * @typedef {object} Shot what one picture of the cloud needs
 * @property {Float32Array} matrix to clip space
 * @property {number} focal of the view, in pixels of the canvas
 * @property {Intrinsics} camera
 * @property {number} every pixels between points
 * @property {boolean} byDepth coloured by depth instead of by the picture
 * @property {Float32Array} lines x, y, z of both ends of each line of the scale
 * @property {[number, number, number, number]} lineColour
 */

const COLOUR_OF = `#version 300 es
precision highp float;
precision highp int;
uniform highp sampler2D depth;
uniform sampler2D picture, palette;
uniform vec2 range;  // nearest, farthest
uniform int every;   // pixels between points
uniform bool by_depth;
vec3 colourOf(ivec2 at, ivec2 size) {
  if (!by_depth) return texelFetch(picture, at * textureSize(picture, 0) / size, 0).rgb;
  float level = (range.y - texelFetch(depth, at, 0).r) / (range.y - range.x) * 255.0;
  return texelFetch(palette, ivec2(int(clamp(level, 0.0, 255.0)), 0), 0).rgb;
}`;

const POINTS_VERTEX = `${COLOUR_OF}
uniform mat4 matrix;
uniform vec4 camera;  // fx, fy, cx, cy
uniform float focal;  // of the view, in its pixels
flat out ivec2 pixel;
flat out vec3 colour;  // of a point that stands for one pixel: the same for all of its fragments
void main() {
  ivec2 size = textureSize(depth, 0);
  int columns = (size.x + every - 1) / every;
  pixel = every * ivec2(gl_VertexID % columns, gl_VertexID / columns);
  ivec2 middle = min(pixel + every / 2, size - 1);
  float z = texelFetch(depth, middle, 0).r;
  gl_PointSize = 1.0;
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);  // nowhere
  if (!(z > 0.0) || isinf(z)) return;
  gl_Position = matrix * vec4((vec2(middle) - camera.zw) / camera.xy * z, z, 1.0);
  gl_PointSize = clamp(ceil(focal * z / min(camera.x, camera.y) * float(every) / gl_Position.w), 1.0, 32.0);
  if (every == 1) colour = colourOf(pixel, size);
}`;

// A point that stands for several pixels shows the colour of each.
const POINTS_FRAGMENT = `${COLOUR_OF}
flat in ivec2 pixel;
flat in vec3 colour;
out vec4 shown;
void main() {
  shown = vec4(colour, 1.0);
  if (every == 1) return;
  ivec2 size = textureSize(depth, 0);
  shown.rgb = colourOf(min(pixel + ivec2(gl_PointCoord * float(every)), size - 1), size);
}`;

const LINES_VERTEX = `#version 300 es
uniform mat4 matrix;
in vec3 point;
void main() { gl_Position = matrix * vec4(point, 1.0); }`;

const LINES_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 line_colour;  // premultiplied
out vec4 shown;
void main() { shown = line_colour; }`;

export class CloudRenderer {
  /**
   * @param {HTMLCanvasElement} canvas
   * @throws {Error} the browser has no WebGL 2
   */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("This browser has no WebGL 2, which draws the cloud.");
    this.gl = gl;
    this.points = program(gl, POINTS_VERTEX, POINTS_FRAGMENT);
    this.lines = program(gl, LINES_VERTEX, LINES_FRAGMENT);
    this.lineEnds = gl.createBuffer();
    this.depthTexture = texture(gl);
    this.pictureTexture = texture(gl);
    const palette = texture(gl);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(PALETTE.buffer));
    [this.depthTexture, this.pictureTexture, palette].forEach((each, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, each);
    });
    /** @type {Depth | null} */
    this.depth = null;
  }

  /** The longest side of a depth map that can be drawn. */
  get maxSide() {
    return this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE);
  }

  /** Take over depth; it goes to the GPU as it is. @param {Depth} depth */
  setDepth(depth) {
    const { gl } = this;
    const isSame = this.depth?.width === depth.width && this.depth.height === depth.height;
    const size = /** @type {const} */ ([depth.width, depth.height]);
    gl.activeTexture(gl.TEXTURE0);
    if (isSame) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ...size, gl.RED, gl.FLOAT, depth.values);
    else gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, ...size, 0, gl.RED, gl.FLOAT, depth.values);
    this.depth = depth;
  }

  /** Take over the picture that gives the colours. @param {TexImageSource} picture */
  setPicture(picture) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, picture);
  }

  /** Draw over the whole canvas. @param {Shot} shot @returns {number} points drawn */
  draw(shot) {
    const { gl } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const points = this.depth ? this.drawPoints(shot, this.depth) : 0;
    if (shot.lines.length) this.drawLines(shot);
    return points;
  }

  /** @param {Shot} shot @param {Depth} depth */
  drawPoints(shot, depth) {
    const { gl, points } = this;
    const { fx, fy, cx, cy } = shot.camera;
    gl.useProgram(points.program);
    gl.uniform1i(points.at("depth"), 0);
    gl.uniform1i(points.at("picture"), 1);
    gl.uniform1i(points.at("palette"), 2);
    gl.uniformMatrix4fv(points.at("matrix"), false, shot.matrix);
    gl.uniform4f(points.at("camera"), fx, fy, cx, cy);
    gl.uniform2f(points.at("range"), ...nearAndFar(depth));
    gl.uniform1f(points.at("focal"), shot.focal);
    gl.uniform1i(points.at("every"), shot.every);
    gl.uniform1i(points.at("by_depth"), Number(shot.byDepth));
    const count = Math.ceil(depth.width / shot.every) * Math.ceil(depth.height / shot.every);
    gl.drawArrays(gl.POINTS, 0, count);
    return count;
  }

  /** @param {Shot} shot */
  drawLines(shot) {
    const { gl, lines } = this;
    gl.useProgram(lines.program);
    gl.uniformMatrix4fv(lines.at("matrix"), false, shot.matrix);
    gl.uniform4f(lines.at("line_colour"), ...shot.lineColour);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.lineEnds);
    gl.bufferData(gl.ARRAY_BUFFER, shot.lines, gl.DYNAMIC_DRAW);
    const point = gl.getAttribLocation(lines.program, "point");
    gl.enableVertexAttribArray(point);
    gl.vertexAttribPointer(point, 3, gl.FLOAT, false, 0, 0);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArrays(gl.LINES, 0, shot.lines.length / 3);
    gl.disable(gl.BLEND);
    gl.disableVertexAttribArray(point);
  }
}

/** @param {WebGL2RenderingContext} gl */
function texture(gl) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
  for (const wrap of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, wrap, gl.CLAMP_TO_EDGE);
  return made;
}

/** @param {WebGL2RenderingContext} gl @param {string} vertex @param {string} fragment */
function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of /** @type {const} */ ([[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]])) {
    const shader = /** @type {WebGLShader} */ (gl.createShader(kind));
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(`The shaders do not link: ${gl.getProgramInfoLog(made)}`);
  }
  /** @type {Map<string, WebGLUniformLocation | null>} */
  const known = new Map();
  const at = (/** @type {string} */ name) => {
    if (!known.has(name)) known.set(name, gl.getUniformLocation(made, name));
    return known.get(name) ?? null;
  };
  return { program: made, at };
}
