// The full volume: start, cancel, and how far it is.

import { number, seconds } from "./units.js";
import { write } from "./write.js";

const STATES = { waiting: "waiting to begin", running: "", finished: "finished", failed: "failed", cancelled: "cancelled" };

export class Volume {
  /**
   * @param {HTMLElement} section
   * @param {import("./shared.js").Shared} shared
   * @param {(message: object) => boolean} send
   */
  constructor(section, shared, send) {
    this.shared = shared;
    this.button = section.querySelector("button");
    this.bar = section.querySelector("progress");
    this.line = section.querySelector("p");
    this.going = false;
    this.button.addEventListener("click", () => {
      shared.ask("volume");
      // what is being made may be of a scan before the one that is shown
      if (this.going) send({ type: "volume", action: "cancel", run_uid: this.volume.run_uid });
      else send({ type: "volume", action: "start" });
      this.say(this.volume);
    });
  }

  update(status) {
    const volume = (this.volume = status.volume);
    this.going = volume?.state === "running" || volume?.state === "waiting";
    const words = this.going ? "Cancel" : "Reconstruct the volume";
    write(this.button, { textContent: words });
    write(this.bar, { hidden: !volume });
    if (volume) write(this.bar, { max: volume.total || 1, value: volume.done });
    this.say(volume);
  }

  say(volume) {
    if (this.shared.isPending("volume") || !volume) return this.shared.say(this.line, "volume");
    const { done, total, rate, seconds_left: left, state, path, message } = volume;
    const facts = [
      STATES[state],
      total ? `${done} of ${total} slices` : "",
      this.going && rate ? `${number(rate)} a second` : "",
      this.going && left !== null ? `${seconds(left)} left` : "",
      message,
      state === "finished" ? path : "",
    ];
    const words = facts.filter(Boolean).join(" · ");
    write(this.line, { textContent: words, title: words });
    this.line.classList.remove("pending");
  }
}
