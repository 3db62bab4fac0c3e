// Which camera's pictures are shown, where workers reconstruct several.

import { write } from "./write.js";

export class CameraChoice {
  /**
   * @param {HTMLElement} row
   * @param {import("./shared.js").Shared} shared
   * @param {(message: object) => boolean} send
   */
  constructor(row, shared, send) {
    this.row = row;
    this.select = row.querySelector("select");
    this.shared = shared;
    this.select.addEventListener("change", () => {
      shared.ask("camera");
      send({ type: "camera", camera: this.select.value });
    });
  }

  update({ cameras, camera }) {
    write(this.row, { hidden: cameras.length < 2 });
    const names = [...this.select.options].map((option) => option.value);
    if (names.join() !== cameras.join()) this.select.replaceChildren(...cameras.map((name) => new Option(name, name)));
    const busy = this.shared.isPending("camera") || document.activeElement === this.select;
    if (!busy) write(this.select, { value: camera });
  }
}
