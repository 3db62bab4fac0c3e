// Which values are black and which are white: a histogram with two handles, automatic until someone touches one.

import { groupOf } from "./planes.js";
import { NOT_FINITE } from "./protocol.js";
import { number } from "./units.js";
import { mark, write } from "./write.js";

const SAMPLES = 6000;
const DRAW_EVERY_MS = 1000;
const BINS = 96;
const LOW_PERCENTILE = 0;
const HIGH_PERCENTILE = 0.99;

/** Finite values of a picture, evenly picked, inside the circle that the projections cover. */
export function sample(picture, depth) {
  const { rows, columns, pixels, scale, offset } = picture;
  const stride = Math.max(1, Math.floor(Math.sqrt((rows * columns) / SAMPLES)));
  const along = (index, length) => ((index + 0.5) / length) * 2 - 1;
  /** @type {(u: number, v?: number) => boolean} */
  let inside = () => true;
  // An oblique plane may leave the circle anywhere; what lies outside is what its own circle leaves out, and more.
  if (picture.plane === "xy" || picture.plane === "oblique") inside = (u, v) => u * u + v * v <= 1;
  else if (groupOf(picture.plane) === "slices") {
    const chord = 1 - along(picture.position, depth || columns) ** 2;
    inside = (u) => u * u <= chord;
  }
  const values = new Float32Array(Math.ceil(rows / stride) * Math.ceil(columns / stride));
  let n = 0;
  for (let row = 0; row < rows; row += stride) {
    const v = along(row, rows);
    for (let column = 0; column < columns; column += stride) {
      const q = pixels[row * columns + column];
      if (q !== NOT_FINITE && inside(along(column, columns), v)) values[n++] = offset + scale * q;
    }
  }
  return values.subarray(0, n);
}

/** The value that a share of the values, 0 to 1, do not exceed. Quickselect (Hoare 1961): moves them, and is sooner done than sorting. */
export function percentile(values, share) {
  const wanted = Math.round(share * (values.length - 1));
  for (let first = 0, last = values.length - 1; first < last; ) {
    const pivot = values[(first + last) >> 1];
    let [i, j] = [first, last];
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i > j) break;
      const other = values[i];
      values[i++] = values[j];
      values[j--] = other;
    }
    if (wanted <= j) last = j;
    else if (wanted >= i) first = i;
    else break;
  }
  return values[wanted];
}

class Group {
  constructor() {
    this.locked = null;
    this.auto = [0, 1];
    this.samples = {};
    /** Of all samples, in no order. */
    this.values = new Float32Array();
    this.units = "";
  }

  get range() {
    return this.locked ?? this.auto;
  }

  take(picture, depth, units) {
    this.samples[picture.plane] = sample(picture, depth);
    this.units = units;
  }

  /** Call when all pictures that came together are taken. */
  settle() {
    const parts = Object.values(this.samples);
    const length = parts.reduce((total, part) => total + part.length, 0);
    if (this.values.length !== length) this.values = new Float32Array(length);
    let at = 0;
    for (const part of parts) {
      this.values.set(part, at);
      at += part.length;
    }
    this.auto = length ? [LOW_PERCENTILE, HIGH_PERCENTILE].map((share) => percentile(this.values, share)) : [0, 1];
  }
}

export class Levels {
  /** changed(group) is called when a person has moved something. */
  constructor(section, changed) {
    this.section = section;
    this.changed = changed;
    this.groups = { slices: new Group(), projection: new Group(), sinogram: new Group() };
    this.shown = "slices";
    this.table = null;
    this.drawn = -Infinity;
    this.canvas = section.querySelector("canvas");
    this.handles = [...section.querySelectorAll("[role=slider]")];
    this.boxes = [...section.querySelectorAll("input[type=number]")];
    this.button = section.querySelector("button.auto");
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  get group() {
    return this.groups[this.shown];
  }

  range(plane) {
    return this.groups[groupOf(plane)].range;
  }

  /** Take the values of a picture; `depth` is how far slices along the axis can lie. */
  take(picture, depth) {
    this.groups[groupOf(picture.plane)].take(picture, depth, picture.known.units);
  }

  lock(name, range) {
    this.groups[name].locked = range;
  }

  listen() {
    for (const radio of this.section.querySelectorAll("input[type=radio]")) {
      radio.addEventListener("change", () => {
        this.shown = radio.value;
        this.draw();
      });
    }
    this.button.addEventListener("click", () => this.set(this.group.locked ? null : [...this.group.auto]));
    this.handles.forEach((handle, end) => {
      handle.addEventListener("pointerdown", (event) => {
        handle.setPointerCapture(event.pointerId);
        handle.focus();
        this.window = this.extent();
      });
      handle.addEventListener("pointermove", (event) => {
        if (!handle.hasPointerCapture(event.pointerId)) return;
        const box = this.canvas.getBoundingClientRect();
        const [low, high] = this.window;
        this.setEnd(end, low + ((event.clientX - box.left) / box.width) * (high - low));
      });
      for (const kind of ["pointerup", "pointercancel"]) handle.addEventListener(kind, () => this.release());
      handle.addEventListener("keydown", (event) => this.key(event, end));
    });
    this.boxes.forEach((box, end) => box.addEventListener("change", () => {
      if (Number.isFinite(box.valueAsNumber)) this.setEnd(end, box.valueAsNumber);
      else this.draw();
    }));
  }

  release() {
    this.window = null;
    this.draw();
  }

  key(event, end) {
    const [low, high] = this.extent();
    const step = ((high - low) / 100) * (event.shiftKey ? 5 : 1);
    const by = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -10 * step, PageUp: 10 * step }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.setEnd(end, this.group.range[end] + by);
  }

  setEnd(end, value) {
    const range = [...this.group.range];
    range[end] = value;
    const least = (this.extent()[1] - this.extent()[0]) / 1000;
    if (end === 0) range[0] = Math.min(range[0], range[1] - least);
    else range[1] = Math.max(range[1], range[0] + least);
    this.set(range);
  }

  set(range) {
    this.group.locked = range;
    this.draw();
    this.changed(this.shown);
  }

  /** The values that the histogram spans; still while a handle is held. */
  extent() {
    if (this.window) return this.window;
    const { values, range } = this.group;
    let [low, high] = range;
    if (values.length) {
      low = Math.min(low, percentile(values, 0.001));
      high = Math.max(high, percentile(values, 0.999));
    }
    if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
    const margin = (high - low) * 0.06;
    return [low - margin, high + margin];
  }

  /** Draw, but not with every picture: the histogram is looked at less often than they are. */
  drawSoon() {
    if (performance.now() - this.drawn >= DRAW_EVERY_MS) this.draw();
    // Later than the next picture, if there is one: it is drawn with it then.
    else this.timer ??= setTimeout(() => this.draw(), 1.5 * DRAW_EVERY_MS);
  }

  draw() {
    clearTimeout(this.timer);
    this.timer = null;
    this.drawn = performance.now();
    const { group } = this;
    const [low, high] = this.extent();
    const share = (value) => Math.min(1, Math.max(0, (value - low) / (high - low)));
    this.handles.forEach((handle, end) => {
      const value = group.range[end];
      handle.style.left = `${share(value) * 100}%`;
      const words = `${number(value)} ${group.units}`.trim();
      mark(handle, { "aria-valuemin": low, "aria-valuemax": high, "aria-valuenow": value, "aria-valuetext": words });
    });
    this.boxes.forEach((box, end) => {
      if (document.activeElement !== box) write(box, { value: String(Number(group.range[end].toPrecision(3))) });
      write(box, { step: String(Number(((high - low) / 100).toPrecision(1))) });
    });
    mark(this.button, { "aria-pressed": !group.locked });
    const told = { mode: group.locked ? "locked by you" : "0 to 99 %", units: group.units, what: this.shown };
    for (const [name, words] of Object.entries(told)) write(this.section.querySelector(`.${name}`), { textContent: words });
    this.drawHistogram(low, high, share);
  }

  drawHistogram(low, high, share) {
    const { canvas, group } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const strip = Math.round(12 * ratio);
    const floor = canvas.height - strip - 3 * ratio;
    const counts = new Float64Array(BINS);
    for (const value of group.values) {
      const bin = Math.floor(((value - low) / (high - low)) * BINS);
      if (bin >= 0 && bin < BINS) counts[bin]++;
    }
    const most = Math.sqrt(Math.max(1, ...counts));
    const width = canvas.width / BINS;
    const [from, to] = group.range.map(share);
    for (let bin = 0; bin < BINS; bin++) {
      const middle = (bin + 0.5) / BINS;
      context.fillStyle = style.getPropertyValue(middle >= from && middle <= to ? "--bar" : "--bar-outside");
      const height = (Math.sqrt(counts[bin]) / most) * (floor - 2 * ratio);
      context.fillRect(Math.floor(bin * width), floor - height, Math.ceil(width), height);
    }
    if (!this.table) return;
    for (let x = 0; x < canvas.width; x++) {
      const place = to > from ? (x / canvas.width - from) / (to - from) : 0;
      const index = 3 * Math.round(255 * Math.min(1, Math.max(0, place)));
      context.fillStyle = `rgb(${this.table[index]},${this.table[index + 1]},${this.table[index + 2]})`;
      context.fillRect(x, canvas.height - strip, 1, strip);
    }
  }
}
