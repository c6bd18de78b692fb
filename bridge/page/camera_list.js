// The list of the robot's cameras.

/**
 * @typedef {object} Camera as `GET /cameras` says
 * @property {string} name
 * @property {string} node
 * @property {"active" | "disabled" | "inactive" | "gone"} state
 * @property {"ok" | "warn" | "error"} level
 * @property {string} message
 * @property {number | null} width
 * @property {number | null} height
 * @property {string | null} model
 * @property {boolean | null} calibrated
 * @property {number | null} rate_in_hz
 * @property {number | null} rate_out_hz
 * @property {number | null} latency_ms
 * @property {number | null} age_ms
 */

export class CameraList {
  /** @param {HTMLElement} list @param {(camera: Camera) => void} choose */
  constructor(list, choose) {
    this.list = list;
    this.choose = choose;
  }

  /** Buttons are kept from one look to the next: the focus stays where it is. @param {Camera[]} cameras @param {string | null} chosen */
  show(cameras, chosen) {
    const known = new Map(this.buttons().map((button) => [button.dataset.name, button]));
    const buttons = cameras.map((camera) => {
      const button = known.get(camera.name) ?? this.button(camera.name);
      button.onclick = () => this.choose(camera);
      button.dataset.level = camera.state === "gone" ? "error" : camera.level;
      const about = /** @type {HTMLElement} */ (button.querySelector("small"));
      about.textContent = camera.rate_out_hz === null ? camera.state : `${camera.state}, ${camera.rate_out_hz.toFixed(1)} Hz`;
      return button;
    });
    if (this.buttons().some((button, at) => button !== buttons[at]) || buttons.length !== this.list.children.length) {
      this.list.replaceChildren(
        ...buttons.map((button) => {
          const item = document.createElement("li");
          item.append(button);
          return item;
        }),
      );
    }
    this.mark(chosen);
  }

  /** @param {string | null} chosen */
  mark(chosen) {
    for (const button of this.buttons()) button.setAttribute("aria-pressed", String(button.dataset.name === chosen));
  }

  /** @returns {HTMLButtonElement[]} */
  buttons() {
    return [...this.list.querySelectorAll("button")];
  }

  /** @param {string} name */
  button(name) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.name = name;
    button.append(Object.assign(document.createElement("b"), { textContent: name }), document.createElement("small"));
    return button;
  }
}
