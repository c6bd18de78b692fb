// The fields of the form: which model, its options, and the camera.

/**
 * @typedef {import("./server.js").Model} Model
 * @typedef {import("./request_line.js").Request} Request
 * @typedef {import("./request_line.js").CameraInput} CameraInput
 */

const GROUPS = { metric: "Metres", scale_invariant: "Depth up to a factor", relative: "Relative" };
const ABOUT_WEIGHTS = { here: "", download: " (fetched at first use)", missing: " (no weights here)", untrained: " (untrained)" };
const DEMONSTRATION = "synthetic"; // its weights are trained on rendered rooms alone

export class ModelChooser {
  /** @param {HTMLFormElement} form */
  constructor(form) {
    this.form = form;
    this.select = /** @type {HTMLSelectElement} */ (form.elements.namedItem("model"));
    /** @type {Model[]} */
    this.models = [];
    this.showFields();
  }

  /** Fill the list; the server's default comes first to mind, else the first with weights. @param {{default: string, models: Model[]}} offer */
  offer({ default: preferred, models }) {
    this.models = models;
    const usable = models.filter((model) => model.weights !== "missing");
    const chosen = usable.find((model) => preferred.startsWith(`${model.encoder}_${model.dataset}_`)) ?? usable[0];
    const groups = Object.entries(GROUPS).map(([kind, label]) => {
      const group = document.createElement("optgroup");
      group.label = label;
      group.append(...models.filter((model) => model.kind === kind).map((model) => this.option(model, model === chosen)));
      return group;
    });
    this.select.replaceChildren(...groups.filter((group) => group.children.length));
    this.showFields();
  }

  /** @param {Model} model @param {boolean} isChosen */
  option(model, isChosen) {
    const text = `${model.encoder} ${model.dataset}${ABOUT_WEIGHTS[model.weights]}`;
    const option = new Option(text, String(this.models.indexOf(model)), isChosen, isChosen);
    option.disabled = model.weights === "missing";
    return option;
  }

  /** The chosen model; null while none is known. @returns {Model | null} */
  get model() {
    return this.models[Number(this.select.value || -1)] ?? null;
  }

  /** @returns {CameraInput} */
  get camera() {
    const knownBy = /** @type {CameraInput["knownBy"]} */ (this.text("known_by"));
    const [fov_deg, fx, fy, cx, cy] = ["fov_deg", "fx", "fy", "cx", "cy"].map((name) => this.text(name));
    return { knownBy, fov_deg, fx, fy, cx, cy };
  }

  /** What is asked for; null while no model is known. @returns {Request | null} */
  request() {
    const { model } = this;
    return model && { model, maxDepth: this.text("max_depth"), inputSize: this.text("model_input_size"), camera: this.camera };
  }

  /** Show the fields that count for this model and this way to know the camera. */
  showFields() {
    const { model } = this;
    this.field("max_depth").placeholder = model?.max_depth ? String(model.max_depth) : "";
    this.field("max_depth").disabled = model?.max_depth == null;
    this.field("model_input_size").placeholder = "default";
    const knownBy = this.text("known_by");
    /** @type {HTMLElement} */ (this.form.querySelector(".by-fov")).hidden = knownBy !== "fov";
    /** @type {HTMLElement} */ (this.form.querySelector(".by-pinhole")).hidden = knownBy !== "pinhole";
    /** @type {HTMLElement} */ (this.form.querySelector(".about-model")).textContent = about(model);
  }

  /** Whether the model's own estimate of the focal length can be chosen. @param {boolean} isKnown */
  offerEstimate(isKnown) {
    const knownBy = /** @type {HTMLSelectElement} */ (this.form.elements.namedItem("known_by"));
    /** @type {HTMLOptionElement} */ (knownBy.querySelector("[value=estimate]")).disabled = !isKnown;
    if (!isKnown && knownBy.value === "estimate") knownBy.value = "fov";
    this.showFields();
  }

  /** @param {string} name */
  field(name) {
    return /** @type {HTMLInputElement} */ (this.form.elements.namedItem(name));
  }

  /** @param {string} name */
  text(name) {
    return this.field(name).value.trim();
  }
}

/** @param {Model | null} model */
function about(model) {
  if (!model) return "";
  if (model.weights === "untrained") return "Random weights: its depth means nothing.";
  if (model.dataset === DEMONSTRATION) return "Demonstration model, trained on rendered rooms.";
  if (model.needs_focal) return "Its metres follow from the camera's focal length.";
  return model.license ? `Licence of the weights: ${model.license}.` : "";
}
