// Rotation centre and filter: what everybody at this scan shares. Says who may change it, and what is on its way.

import { number } from "./units.js";

const TRUST_MS = 4000;
const SLIDE = 10;

export class Controls {
  constructor(form, send) {
    this.form = form;
    this.send = send;
    this.allowed = false;
    this.status = null;
    this.asked = null;
    this.box = form.querySelector("#center");
    this.slider = form.querySelector("#center-slider");
    this.filter = form.querySelector("#filter");
    this.slider.addEventListener("input", () => this.setCenter(Math.round(this.slider.valueAsNumber * 10) / 10));
    this.slider.addEventListener("change", () => this.aim(this.slider.valueAsNumber));
    form.addEventListener("submit", (event) => event.preventDefault());
    this.box.addEventListener("change", () => {
      if (Number.isFinite(this.box.valueAsNumber)) this.setCenter(this.box.valueAsNumber);
    });
    for (const button of form.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => this.nudgeCenter(Number(button.dataset.step)));
    }
    form.querySelector("#estimate").addEventListener("click", () => {
      this.ask({ type: "center", estimate: true }, "an estimate");
    });
    this.filter.addEventListener("change", () => {
      this.send({ type: "filter", filter: this.filter.value });
      this.filterAsked = performance.now();
    });
  }

  hello({ control, reason, filters }) {
    this.allowed = control;
    for (const field of this.form.querySelectorAll("fieldset")) field.disabled = !control;
    this.form.querySelector("#refusal").textContent = control ? "" : `View only: ${reason}.`;
    if ([...this.filter.options].map((option) => option.value).join() !== filters.join()) {
      this.filter.replaceChildren(...filters.map((name) => new Option(name, name)));
    }
    if (this.status) this.update(this.status, this.columns);
  }

  nudgeCenter(by) {
    const from = this.asked?.center ?? this.status?.center;
    if (from !== null && from !== undefined) this.setCenter(Math.round((from + by) * 100) / 100);
  }

  /** The slider reaches some columns to each side of where the centre is. */
  aim(center) {
    this.slider.min = String(Math.max(0, center - SLIDE));
    this.slider.max = String(Math.min((this.columns ?? Infinity) - 1, center + SLIDE));
    this.slider.value = String(center);
  }

  setCenter(center) {
    if (!this.allowed) return;
    this.box.value = String(center);
    this.ask({ type: "center", center }, number(center, 6), center);
  }

  ask(message, words, center = null) {
    if (!this.send(message)) return;
    this.asked = { center, words, at: performance.now(), source: this.status?.center_source };
    this.say();
  }

  refused() {
    this.asked = null;
    if (this.status) this.update(this.status, this.columns);
  }

  /** status: what the settings are about, by the names of the state: the pictures shown, or the scan before its first. */
  update(status, columns) {
    this.status = status;
    this.columns = columns;
    const { asked } = this;
    if (asked) {
      const there = asked.center !== null ? Math.abs((status.center ?? NaN) - asked.center) < 1e-6 : status.center_source !== asked.source;
      if (there || performance.now() - asked.at > TRUST_MS) this.asked = null;
    }
    if (columns) this.box.max = String(columns - 1);
    if (!this.asked && document.activeElement !== this.box) {
      this.box.value = status.center === null ? "" : String(Math.round(status.center * 100) / 100);
    }
    if (!this.asked && document.activeElement !== this.slider && status.center !== null) this.aim(status.center);
    if (document.activeElement !== this.filter && performance.now() - (this.filterAsked ?? -Infinity) > TRUST_MS / 2) {
      this.filter.value = status.filter;
    }
    this.say();
  }

  say() {
    const source = this.status?.center_source ?? "";
    const words = this.asked ? `asked for ${this.asked.words} …` : source || "not known yet";
    const line = this.form.querySelector("#center-source");
    if (line.textContent !== words) line.textContent = words;
  }
}
