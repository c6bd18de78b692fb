// The tab of single pictures. Data goes one way: a picture and what is asked for -> the answer -> what is shown.

import { ModelChooser } from "./model_chooser.js";
import { fromFieldOfView, fromFocal } from "./intrinsics.js";
import { curlLine, pathOf } from "./request_line.js";
import { timingText } from "./server.js";
import { cameraObstacle, listenForPictures, takePicture } from "./sources.js";
import { upright } from "./upright.js";
import { Downloads } from "./downloads.js";
import { watchQueue } from "./queue_watch.js";

/**
 * @typedef {import("./server.js").Answer} Answer
 * @typedef {import("./server.js").Server} Server
 * @typedef {import("./compare_view.js").CompareView} CompareView
 * @typedef {import("./cloud_view.js").CloudView} CloudView
 * @typedef {import("./intrinsics.js").Intrinsics} Intrinsics
 * @typedef {import("./request_line.js").Request} Request
 *
 * @typedef {{name: string, file: Blob, bitmap: ImageBitmap}} Picture as it is sent, and its pixels
 */

export class PictureTab {
  /**
   * @param {HTMLElement} root
   * @param {Server} server
   * @param {CompareView} compare
   * @param {CloudView} cloud
   * @param {HTMLDialogElement} shutter
   */
  constructor(root, server, compare, cloud, shutter) {
    this.root = root;
    this.server = server;
    this.compare = compare;
    this.cloud = cloud;
    this.shutter = shutter;
    this.form = /** @type {HTMLFormElement} */ (root.querySelector("form"));
    this.chooser = new ModelChooser(this.form);
    this.downloads = new Downloads(root);
    /** @type {Picture | null} */
    this.picture = null;
    /** @type {Answer | null} */
    this.answer = null;
    this.asking = new AbortController();
    this.onAnswer = () => {}; // told after each answer, good or bad
    this.listen();
  }

  /** Learn what can be asked for. */
  async begin() {
    try {
      this.chooser.offer(await this.server.models());
    } catch (error) {
      this.complain(/** @type {Error} */ (error).message);
    }
  }

  listen() {
    listenForPictures(this.root, () => !this.root.hidden && !document.querySelector("dialog[open]"), (file) => this.take(file));
    const shoot = this.find("button.shoot");
    shoot.addEventListener("click", async () => {
      const file = cameraObstacle() ? null : await takePicture(this.shutter);
      if (file) this.take(file);
      else if (cameraObstacle()) this.complain(cameraObstacle());
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", (event) => this.onChange(/** @type {HTMLInputElement} */ (event.target).name));
    this.find("button.copy").addEventListener("click", () => this.copyLine());
  }

  /** @param {string} name of the control that changed */
  onChange(name) {
    if (!name) return;
    this.chooser.showFields();
    const isOfCamera = ["known_by", "fov_deg", "fx", "fy", "cx", "cy"].includes(name);
    if (!isOfCamera || this.chooser.model?.needs_focal) this.ask();
    else this.showCloud();
  }

  /** Take a new picture. @param {File} file */
  async take(file) {
    this.complain("");
    try {
      const { file: sent, bitmap } = await upright(file);
      this.picture = { name: file.name, file: sent, bitmap };
    } catch {
      this.complain(`The browser cannot read ${file.name || "this file"} as a picture.`);
      return;
    }
    this.find(".empty").hidden = true;
    this.find(".figures").hidden = false;
    this.compare.showPicture(this.picture.bitmap);
    await this.ask();
  }

  /** Ask the server about the picture. A question that was not answered yet is dropped. */
  async ask() {
    this.asking.abort();
    const request = this.chooser.request();
    if (!this.picture || !request) return;
    const asking = (this.asking = new AbortController());
    const path = pathOf(request);
    this.forget();
    this.complain("");
    this.showLine(path);
    const stopWatching = watchQueue(this.server, this.compare, asking.signal);
    this.say("Working.");
    try {
      this.show(await this.server.depth(this.picture.file, path, asking.signal), request);
    } catch (error) {
      if (!asking.signal.aborted) this.complain(/** @type {Error} */ (error).message);
    } finally {
      stopWatching();
      this.onAnswer();
    }
  }

  /** @param {Answer} answer @param {Request} request */
  show(answer, request) {
    this.answer = answer;
    this.compare.showDepth(answer);
    this.chooser.offerEstimate(answer.focalPx !== null && !request.model.needs_focal);
    const facts = [answer.modelKey, `${answer.width} × ${answer.height}`, timingText(answer.timing)];
    if (answer.maxDepth !== null) facts.splice(1, 0, `largest depth ${answer.maxDepth} m`);
    this.find(".facts").textContent = facts.filter(Boolean).join("  ·  ");
    this.say(`Depth is here: ${this.compare.meaning.textContent}.`);
    this.showCloud();
  }

  /** Draw the cloud of the answer with the camera that is known now. */
  showCloud() {
    if (!this.answer || !this.picture) return;
    const camera = this.camera(this.answer);
    if (this.answer.kind === "relative") this.cloud.clear("Relative depth has no geometry: there is no cloud of it.");
    else if (!camera) this.cloud.clear("The camera is not known: it needs numbers, focal lengths above 0.");
    else this.cloud.show(this.answer, this.picture.bitmap, camera);
    this.downloads.offer(this.answer, this.picture, camera);
  }

  /** @param {Answer} answer @returns {Intrinsics | null} */
  camera(answer) {
    const { camera } = this.chooser;
    if (camera.knownBy === "fov") {
      const degrees = Number(camera.fov_deg);
      return degrees > 0 && degrees < 180 ? fromFieldOfView(degrees, answer) : null;
    }
    if (camera.knownBy === "estimate") return answer.focalPx === null ? null : fromFocal(answer.focalPx, answer);
    const texts = [camera.fx, camera.fy, camera.cx, camera.cy];
    const [fx, fy, cx, cy] = texts.map(Number);
    return texts.every(Boolean) && fx > 0 && fy > 0 ? { fx, fy, cx, cy } : null;
  }

  /** Take away what belongs to another answer. */
  forget() {
    this.answer = null;
    this.compare.clearDepth();
    this.cloud.clear();
    this.downloads.clear();
    this.find(".facts").textContent = "";
  }

  /** @param {string} path */
  showLine(path) {
    const { name, file } = /** @type {Picture} */ (this.picture);
    this.find("pre code").textContent = curlLine(path, { name, type: file.type }, this.server.needsKey);
    this.find(".after").hidden = false;
  }

  async copyLine() {
    const button = this.find("button.copy");
    try {
      await navigator.clipboard.writeText(this.find("pre code").textContent ?? "");
      button.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(this.find("pre code"));
      button.textContent = "Selected: press Ctrl+C"; // no HTTPS: the browser keeps the clipboard to itself
    }
    setTimeout(() => (button.textContent = "Copy"), 3000);
  }

  /** @param {string} words nothing: all is well */
  complain(words) {
    const problem = this.find(".problem");
    problem.textContent = words;
    problem.hidden = !words;
  }

  /** @param {string} words for those who cannot see */
  say(words) {
    this.find(".views > .spoken").textContent = words;
  }

  /** @param {string} selector @returns {HTMLElement} */
  find(selector) {
    return /** @type {HTMLElement} */ (this.root.querySelector(selector));
  }
}
