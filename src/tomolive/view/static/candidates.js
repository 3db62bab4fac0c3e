// A strip of the same slice, each with another rotation centre. A score helps, the eye decides: click the sharpest.

import { paint } from "./draw.js";
import { mark, write } from "./write.js";

const COUNT = 7;

export class Candidates {
  /**
   * @param {HTMLElement} section
   * @param {HTMLButtonElement} button opens and closes the strip
   * @param {{send: (message: object) => boolean, changed: () => void, choose: (center: number) => void, shared: import("./shared.js").Shared}} room
   */
  constructor(section, button, room) {
    this.section = section;
    this.button = button;
    this.room = room;
    this.list = section.querySelector("ol");
    this.step = section.querySelector("select");
    this.line = section.querySelector(".note");
    this.open = false;
    this.picture = null;
    this.run = "";
    this.over = false;
    this.centers = [];
    button.addEventListener("click", () => this.toggle());
    section.querySelector(".close").addEventListener("click", () => this.toggle(false));
    section.querySelector(".again").addEventListener("click", () => this.ask());
    this.step.addEventListener("change", () => this.ask());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.open) this.toggle(false);
    });
    new ResizeObserver(() => this.draw()).observe(this.list);
  }

  toggle(open = !this.open) {
    this.open = open;
    this.section.hidden = !open;
    document.body.dataset.candidates = String(open);
    this.button.setAttribute("aria-expanded", String(open));
    if (open) this.ask();
    else {
      this.picture = null;
      this.button.focus();
    }
    this.room.changed();
  }

  ask() {
    this.over = false;
    this.room.shared.ask("candidates");
    this.room.send({ type: "candidates", step: Number(this.step.value), count: COUNT });
    this.say();
  }

  /** Device pixels of the longer side: all of them, because half a column is what the eye looks for. */
  get wanted() {
    return 16384;
  }

  update(status, center) {
    if (status.run_uid !== this.run) {
      // What was drawn belongs to the scan before.
      this.over = this.picture !== null;
      this.picture = null;
      this.run = status.run_uid;
    }
    if (!this.open) return;
    this.centers = status.candidates;
    this.scores = status.candidate_scores;
    this.center = center;
    if (this.list.children.length !== this.centers.length) {
      this.list.replaceChildren(...this.centers.map(() => this.item()));
    }
    this.tell();
    this.say();
  }

  item() {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("canvas"), document.createElement("span"));
    button.addEventListener("click", () => this.room.choose(this.centers[[...this.list.children].indexOf(item)]));
    item.append(button);
    return item;
  }

  /** Label each candidate: its centre, whether it is in force, and whether its score is the best. */
  tell() {
    const best = this.scores.indexOf(Math.max(...this.scores));
    [...this.list.children].forEach((item, i) => {
      const button = item.firstElementChild;
      const chosen = Math.abs(this.centers[i] - this.center) < 1e-6;
      const words = [String(Math.round(this.centers[i] * 100) / 100), i === best ? "best score" : "", chosen ? "in force" : ""].filter(Boolean).join(" · ");
      mark(button, { "aria-pressed": chosen, "aria-label": `Rotation centre ${words}` });
      button.classList.toggle("best", i === best);
      write(button.lastElementChild, { textContent: words });
    });
  }

  say() {
    const pending = this.room.shared.isPending("candidates") || (!this.picture && !this.over);
    const drawn = this.over ? "The next scan has begun: ask again when it has come far enough." : "The sharpest edges belong to the right centre. Click it.";
    write(this.line, { textContent: pending ? "pending: the candidates are being drawn …" : drawn });
    this.line.classList.toggle("pending", pending);
  }

  take(picture, levels, table) {
    this.picture = picture;
    this.recolor(levels, table);
    this.say();
  }

  recolor(levels, table) {
    if (!this.picture) return;
    this.painted = paint(this.picture, levels, table, this.painted);
    this.draw();
  }

  /** Show the middle of each slice, pixel for pixel where there is room for no more. */
  draw() {
    if (!this.open || !this.picture || !this.centers.length) return;
    const side = this.painted.width / this.centers.length;
    const ratio = window.devicePixelRatio || 1;
    [...this.list.children].forEach((item, i) => {
      const canvas = item.querySelector("canvas");
      const room = Math.max(1, Math.round(canvas.clientWidth * ratio));
      const shown = Math.min(side, this.painted.height, Math.max(room, side / 3));
      canvas.width = canvas.height = room;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = room < shown;
      const inset = (side - shown) / 2;
      context.drawImage(this.painted, i * side + inset, (this.painted.height - shown) / 2, shown, shown, 0, 0, room, room);
    });
  }
}
