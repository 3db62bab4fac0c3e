// What everybody at this scan shares: who may change it, what is on its way, who changed it last.

import { clock } from "./units.js";
import { write } from "./write.js";

export class Shared {
  /** @param {HTMLElement} root every fieldset in it is locked for those who may only look */
  constructor(root) {
    this.root = root;
    this.allowed = false;
    this.pending = [];
    this.changes = [];
    this.refining = false;
    /** @type {Record<string, number>} when this page asked for a change */
    this.asked = {};
  }

  hello({ control, reason }) {
    this.allowed = control;
    for (const field of this.root.querySelectorAll("fieldset")) field.disabled = !control;
    this.root.querySelector("#refusal").textContent = control ? "" : `View only: ${reason}.`;
  }

  update(status) {
    this.pending = status.pending;
    this.changes = status.changes;
    this.refining = status.refining;
    for (const { about } of status.pending) delete this.asked[about];
  }

  /** Note that this page has asked, until the server says so or a second is over. */
  ask(about) {
    this.asked[about] = performance.now();
  }

  refused() {
    this.asked = {};
  }

  /** Whether a change is on its way. */
  isPending(about) {
    return this.pending.some((wish) => wish.about === about) || performance.now() - (this.asked[about] ?? -Infinity) < 1000;
  }

  /** What stands below a control: on its way, or who changed it when, or `otherwise`. */
  words(about, otherwise) {
    const wish = this.pending.find((one) => one.about === about);
    if (wish) return `pending: ${wish.who} changed it …`;
    if (this.isPending(about)) return "pending …";
    if (about === "centre" && this.refining) return "being refined with all projections …";
    const change = this.changes.find((one) => one.what === about);
    if (!change) return otherwise;
    const when = `by ${change.who}, ${clock(change.when)}`;
    return about === "centre" ? [otherwise.startsWith("set by") ? `set ${when}` : `${otherwise} (${when})`].join("") : `changed ${when}`;
  }

  /** Write the words into a line, marked while something is on its way. */
  say(line, about, otherwise = "") {
    const words = this.words(about, otherwise);
    write(line, { textContent: words });
    line.classList.toggle("pending", words.startsWith("pending") || words.startsWith("being"));
  }
}
