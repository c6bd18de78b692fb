// Tabs as ARIA describes them: arrow keys go from one to the next; the address remembers which is open.

export class Tabs {
  /**
   * @param {NodeListOf<Element>} tabs buttons, each of a panel
   * @param {(name: string) => void} [opened] told the panel's id whenever another tab opens
   */
  constructor(tabs, opened = () => {}) {
    this.tabs = /** @type {HTMLElement[]} */ ([...tabs]);
    this.opened = opened;
    this.tabs.forEach((tab, at) => {
      tab.addEventListener("click", () => this.open(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        const next = this.tabs[(at + step + this.tabs.length) % this.tabs.length];
        next.focus();
        this.open(next);
      });
    });
    addEventListener("hashchange", () => this.openNamed());
    this.openNamed();
  }

  /** Open the tab that the address names, else the first. */
  openNamed() {
    const named = this.tabs.find((tab) => `#${nameOf(tab)}` === location.hash);
    this.open(named ?? this.tabs[0]);
  }

  /** @param {HTMLElement} chosen */
  open(chosen) {
    for (const tab of this.tabs) {
      const isOpen = tab === chosen;
      tab.setAttribute("aria-selected", String(isOpen));
      tab.tabIndex = isOpen ? 0 : -1;
      /** @type {HTMLElement} */ (document.getElementById(nameOf(tab))).hidden = !isOpen;
    }
    history.replaceState(null, "", `#${nameOf(chosen)}`);
    this.opened(nameOf(chosen));
  }
}

/** @param {HTMLElement} tab */
function nameOf(tab) {
  return tab.getAttribute("aria-controls") ?? "";
}
