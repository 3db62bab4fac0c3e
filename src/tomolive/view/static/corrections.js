// Filter, binning, zingers, rings, Paganin and half acquisition: what is done to the projections before the slices.

import { write } from "./write.js";

const PAGANIN = ["energy_kev", "distance_m", "pixel_size_um", "delta_beta"];
const USUAL = { energy_kev: 25, distance_m: 0.1, pixel_size_um: 1, delta_beta: 200 };

export class Corrections {
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
    const $ = (id) => form.querySelector(`#${id}`);
    this.filter = $("filter");
    this.binning = $("binning");
    this.rings = $("rings");
    this.zingers = $("zingers");
    this.paganin = $("paganin");
    this.half = $("half-acquisition");
    this.fields = Object.fromEntries(PAGANIN.map((name) => [name, $(name.replaceAll("_", "-"))]));
    this.more = $("paganin-fields");
    this.line = $("corrections-source");
    this.filter.addEventListener("change", () => {
      this.shared.ask("filter");
      this.send({ type: "filter", filter: this.filter.value });
    });
    this.binning.addEventListener("change", () => this.ask({ binning: Number(this.binning.value) }));
    this.rings.addEventListener("change", () => this.ask({ rings: this.rings.value }));
    this.zingers.addEventListener("change", () => this.ask({ zingers: this.zingers.checked }));
    this.half.addEventListener("change", () => this.ask({ half_acquisition: JSON.parse(this.half.value) }));
    this.paganin.addEventListener("change", () => this.askPaganin());
    for (const field of Object.values(this.fields)) field.addEventListener("change", () => this.askPaganin());
  }

  hello({ filters }) {
    if ([...this.filter.options].map((option) => option.value).join() !== filters.join()) {
      this.filter.replaceChildren(...filters.map((name) => new Option(name, name)));
    }
    if (this.subject) this.update(this.subject);
  }

  ask(change) {
    this.shared.ask("corrections");
    this.send({ type: "corrections", ...change });
    this.say();
  }

  askPaganin() {
    this.more.hidden = !this.paganin.checked;
    if (!this.paganin.checked) return this.ask({ paganin: null });
    const values = Object.fromEntries(PAGANIN.map((name) => [name, this.fields[name].valueAsNumber]));
    const wrong = PAGANIN.find((name) => !(values[name] > 0));
    if (wrong) return this.fields[wrong].focus();
    this.ask({ paganin: values });
  }

  /** subject: as for the centre. */
  update(subject) {
    this.subject = subject;
    if (!this.shared.isPending("filter") && document.activeElement !== this.filter) write(this.filter, { value: subject.filter });
    const { corrections } = subject;
    if (corrections && !this.shared.isPending("corrections") && !this.form.contains(document.activeElement)) this.show(corrections);
    this.say();
  }

  show({ binning, rings, zingers, paganin, half_acquisition: half }) {
    write(this.half, { value: String(half) });
    write(this.binning, { value: String(binning) });
    write(this.rings, { value: rings });
    write(this.zingers, { checked: zingers });
    write(this.paganin, { checked: Boolean(paganin) });
    write(this.more, { hidden: !paganin });
    const values = paganin ?? { ...USUAL, pixel_size_um: this.subject.pixel_size_um ?? USUAL.pixel_size_um };
    for (const name of PAGANIN) write(this.fields[name], { value: String(Number(values[name].toPrecision(6))) });
  }

  say() {
    const about = this.shared.isPending("filter") ? "filter" : "corrections";
    this.shared.say(this.line, about, this.shared.words("filter", ""));
  }
}
