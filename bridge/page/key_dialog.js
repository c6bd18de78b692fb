// The dialog that asks for a key, until one is right.

/**
 * @param {HTMLDialogElement} dialog
 * @param {(key: string) => Promise<void>} signIn rejects where the key is wrong
 * @returns {() => Promise<void>} asks; several at once share one dialog
 */
export function keyDialog(dialog, signIn) {
  const input = /** @type {HTMLInputElement} */ (dialog.querySelector("input"));
  const problem = /** @type {HTMLElement} */ (dialog.querySelector(".problem"));
  /** @type {Promise<void> | null} */
  let asking = null;
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // nothing works without

  /** @returns {Promise<void>} */
  async function ask() {
    problem.hidden = true;
    dialog.showModal();
    await new Promise((resolve) => {
      dialog.onsubmit = async (event) => {
        event.preventDefault();
        try {
          await signIn(input.value);
          resolve(null);
        } catch (error) {
          problem.textContent = /** @type {Error} */ (error).message;
          problem.hidden = false;
          input.select();
        }
      };
    });
    input.value = "";
    dialog.close();
  }

  return () => (asking ??= ask().finally(() => (asking = null)));
}
