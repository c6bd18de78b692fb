// Where pictures come from: a file that is chosen, dropped or pasted, or the device's camera.

import { jpegOf } from "./upright.js";

/**
 * @param {HTMLElement} root holds the buttons
 * @param {() => boolean} isWanted whether pictures are taken now
 * @param {(file: File) => void} take
 */
export function listenForPictures(root, isWanted, take) {
  const chosen = /** @type {HTMLInputElement} */ (root.querySelector("input.file"));
  const takeFirst = (/** @type {FileList | undefined} */ files) => files?.[0] && take(files[0]);
  for (const chooser of root.querySelectorAll("button.choose, .empty")) {
    chooser.addEventListener("click", () => chosen.click());
  }
  chosen.addEventListener("change", () => {
    takeFirst(chosen.files ?? undefined);
    chosen.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => isWanted() && takeFirst(event.clipboardData?.files));
  for (const name of /** @type {const} */ (["dragenter", "dragover", "dragleave", "drop"])) {
    document.addEventListener(name, (event) => {
      event.preventDefault(); // or the browser would leave the page for the file
      document.body.classList.toggle("is-target", isWanted() && name.startsWith("drag") && name !== "dragleave");
      if (name === "drop" && isWanted()) takeFirst(event.dataTransfer?.files);
    });
  }
}

/** Why the device's camera cannot be used; empty where it can be asked for. */
export function cameraObstacle() {
  if (!isSecureContext) return "The camera needs HTTPS, or a page of this machine.";
  return navigator.mediaDevices ? "" : "This browser gives no camera.";
}

/**
 * Show what the device's camera sees until a picture is taken.
 * @param {HTMLDialogElement} dialog
 * @returns {Promise<File | null>} null: it was cancelled
 */
export async function takePicture(dialog) {
  const video = /** @type {HTMLVideoElement} */ (dialog.querySelector("video"));
  const problem = /** @type {HTMLElement} */ (dialog.querySelector(".problem"));
  const taking = /** @type {HTMLButtonElement} */ (dialog.querySelector("button[value=take]"));
  problem.hidden = true;
  taking.disabled = true;
  video.onloadeddata = () => (taking.disabled = false);
  dialog.returnValue = "";
  dialog.showModal();
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const opening = navigator.mediaDevices.getUserMedia({
    video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 960 } },
  });
  opening
    .then((stream) => (video.srcObject = stream))
    .catch((error) => {
      problem.textContent = `The camera does not open: ${error.message}`;
      problem.hidden = false;
    });
  await closed;
  const taken = dialog.returnValue === "take" ? await jpegOf(await createImageBitmap(video)) : null;
  video.srcObject = null;
  opening.then((stream) => stream.getTracks().forEach((track) => track.stop())).catch(() => {});
  return taken && new File([taken], "camera.jpg", { type: taken.type });
}
