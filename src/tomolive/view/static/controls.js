// The rotation centre: box, steps, slider, estimate.

import { number } from "./units.js";
import { write } from "./write.js";

const TRUST_MS = 4000;
const SLIDE = 10;
const MOST_OFTEN_MS = 60;
/** What someone who has never set a centre should make of where this one comes from. */
const SOURCES = { given: "given at the start: compare candidates", provisional: "provisional, until it can be estimated" };

export class CenterControl {
  /**
   * @param {HTMLElement} form
   * @param {import("./shared.js").Shared} shared
   * @param {(message: object) => boolean} send
   */
  constructor(form, shared, send) {
    this.form = form;
    this.shared = shared;
    this.send = send;
    this.subject = null;
    this.asked = null;
    this.box = form.querySelector("#center");
    this.slider = form.querySelector("#center-slider");
    this.line = form.querySelector("#center-source");
    this.slider.addEventListener("input", () => this.setCenter(Math.round(this.slider.valueAsNumber * 10) / 10));
    this.slider.addEventListener("change", () => this.aim(this.slider.valueAsNumber));
    this.box.addEventListener("change", () => {
      if (Number.isFinite(this.box.valueAsNumber)) this.setCenter(this.box.valueAsNumber);
    });
    for (const button of form.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => this.nudgeCenter(Number(button.dataset.step)));
    }
    form.querySelector("#estimate").addEventListener("click", () => this.ask({ type: "center", estimate: true }, "an estimate"));
  }

  nudgeCenter(by) {
    const from = this.asked?.center ?? this.subject?.center;
    if (from !== null && from !== undefined) this.setCenter(Math.round((from + by) * 100) / 100);
  }

  /** The slider reaches some columns to each side of where the centre is. */
  aim(center) {
    const most = (this.columns ?? Infinity) - 1;
    const [min, max] = [Math.max(0, center - SLIDE), Math.min(most, center + SLIDE)];
    write(this.slider, { min: String(min), max: String(max), value: String(center) });
  }

  setCenter(center) {
    if (!this.shared.allowed) return;
    this.box.value = String(center);
    this.ask({ type: "center", center }, number(center, 6), center);
  }

  /** Ask; while a slider is dragged, not more often than pictures can follow. */
  ask(message, words, center = null) {
    this.asked = { center, words, at: performance.now(), source: this.subject?.center_source };
    this.shared.ask("centre");
    this.waiting = message;
    if (this.timer) return this.say();
    const flush = () => {
      this.timer = this.waiting && setTimeout(flush, MOST_OFTEN_MS);
      if (this.waiting) this.send(this.waiting);
      this.waiting = null;
    };
    flush();
    this.say();
  }

  refused() {
    this.asked = null;
    if (this.subject) this.update(this.subject, this.columns);
  }

  /** subject: what the settings are about, by the names of the state: the pictures shown, or the scan before its first. */
  update(subject, columns) {
    this.subject = subject;
    this.columns = columns;
    const { asked } = this;
    if (asked) {
      const there = asked.center !== null ? Math.abs((subject.center ?? NaN) - asked.center) < 1e-6 : subject.center_source !== asked.source;
      if (there || performance.now() - asked.at > TRUST_MS) this.asked = null;
    }
    if (columns) write(this.box, { max: String(columns - 1) });
    if (!this.asked && document.activeElement !== this.box) {
      write(this.box, { value: subject.center === null ? "" : String(Math.round(subject.center * 100) / 100) });
    }
    if (!this.asked && document.activeElement !== this.slider && subject.center !== null) this.aim(subject.center);
    this.say();
  }

  say() {
    const source = SOURCES[this.subject?.center_source] ?? (this.subject?.center_source || "not known yet");
    this.shared.say(this.line, "centre", this.asked ? `pending: asked for ${this.asked.words} …` : source);
  }
}
