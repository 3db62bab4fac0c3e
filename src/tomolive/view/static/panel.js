// One picture: its canvas, the marks on it, and the hands that move them.

import { paint, place, show } from "./draw.js";
import { AXES, PLANE_THROUGH } from "./planes.js";
import { valueAt } from "./protocol.js";
import { number, scaleBar } from "./units.js";

const GRAB_PX = 10;
const WHEEL_STEP = 60;

export class Panel {
  /** room: {positions, status(), subject(), control(), color(plane), cursor(words), viewed(), enlarge(plane), setCenter(column)} */
  constructor(figure, plane, room) {
    this.figure = figure;
    this.plane = plane;
    this.axes = AXES[plane];
    this.room = room;
    this.well = figure.querySelector(".well");
    this.canvas = figure.querySelector(".picture");
    this.marks = figure.querySelector(".marks");
    this.box = figure.querySelector("input");
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.picture = null;
    this.painted = null;
    this.pointers = new Map();
    this.wheel = 0;
    this.ghost = null;
    new ResizeObserver(() => this.resize()).observe(this.well);
    this.listen();
  }

  /** Width and height in source pixels, whatever was averaged on the way. */
  get size() {
    const known = this.picture?.known ?? this.room.status()?.pictures?.[this.plane];
    return known ? [known.columns, known.rows] : [1, 1];
  }

  /** Device pixels of the longer side, for the server to average to. */
  get wanted() {
    const [width, height] = this.size;
    const { scale } = place(this.canvas, width, height, this.view);
    return Math.round(Math.min(16384, Math.max(16, Math.max(width, height) * scale)));
  }

  resize() {
    const { width, height } = this.well.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.marks]) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(height * ratio));
    }
    this.show();
    this.room.viewed();
  }

  draw(picture, levels, table) {
    this.picture = picture;
    this.recolor(levels, table);
  }

  recolor(levels, table) {
    if (!this.picture) return;
    this.painted = paint(this.picture, levels, table, this.painted ?? undefined);
    this.show();
  }

  clear() {
    this.picture = this.painted = null;
    for (const canvas of [this.canvas, this.marks]) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }

  show() {
    if (!this.painted) return;
    show(this.canvas, this.painted, ...this.size, this.view);
    this.mark();
  }

  // ---- marks

  mark() {
    const context = this.marks.getContext("2d");
    context.clearRect(0, 0, this.marks.width, this.marks.height);
    if (!this.painted) return;
    const ratio = window.devicePixelRatio || 1;
    const { scale, left, top } = place(this.marks, ...this.size, this.view);
    const [width, height] = this.size;
    const frame = { left: Math.max(0, left), top: Math.max(0, top) };
    frame.right = Math.min(this.marks.width, left + width * scale);
    frame.bottom = Math.min(this.marks.height, top + height * scale);
    const at = this.room.positions.at;
    const { across, down } = this.axes;
    const x = left + ((this.plane === "projection" ? NaN : at[across]) + 0.5) * scale;
    const y = top + (at[down] + 0.5) * scale;
    const gap = 7 * ratio;
    this.line(context, frame, "h", y, this.room.color(PLANE_THROUGH[down]), Number.isNaN(x) ? null : x, gap);
    if (this.plane === "projection") this.axisMark(context, frame, left, scale, ratio);
    else this.line(context, frame, "v", x, this.room.color(PLANE_THROUGH[across]), y, gap);
    this.drawScaleBar(context, frame, scale, ratio);
  }

  line(context, frame, direction, place_, color, crossing, gap, dashes = []) {
    const ratio = window.devicePixelRatio || 1;
    const [from, to] = direction === "v" ? [frame.top, frame.bottom] : [frame.left, frame.right];
    const [low, high] = direction === "v" ? [frame.left, frame.right] : [frame.top, frame.bottom];
    if (!(place_ >= low && place_ <= high)) return;
    const pieces = crossing === null ? [[from, to]] : [[from, crossing - gap], [crossing + gap, to]];
    const middle = Math.round(place_) + 0.5;
    for (const [style, width] of [["rgba(0,0,0,0.4)", 3], [color, 1.4]]) {
      context.beginPath();
      context.setLineDash(dashes.map((dash) => dash * ratio));
      for (const [a, b] of pieces) {
        if (b <= a) continue;
        if (direction === "v") context.moveTo(middle, a), context.lineTo(middle, b);
        else context.moveTo(a, middle), context.lineTo(b, middle);
      }
      context.strokeStyle = style;
      context.lineWidth = width * ratio;
      context.stroke();
    }
    context.setLineDash([]);
  }

  axisMark(context, frame, left, scale, ratio) {
    const center = this.ghost ?? this.room.subject()?.center;
    if (center === null || center === undefined) return;
    const x = left + (center + 0.5) * scale;
    this.line(context, frame, "v", x, this.room.color("axis"), null, 0, [7, 4]);
    const words = `rotation axis ${number(center, 5)}`;
    const right = x + 130 * ratio < frame.right;
    this.text(context, words, x + (right ? 6 : -6) * ratio, frame.top + 6 * ratio, right ? "left" : "right", "top", ratio);
  }

  drawScaleBar(context, frame, scale, ratio) {
    const bar = scaleBar(((frame.right - frame.left) / scale) * 0.28, this.picture.known.of.pixel_size_um);
    const length = bar.pixels * scale;
    const right = frame.right - 12 * ratio;
    const bottom = frame.bottom - 12 * ratio;
    context.fillStyle = "rgba(0,0,0,0.6)";
    context.fillRect(right - length - ratio, bottom - 4 * ratio, length + 2 * ratio, 5 * ratio);
    context.fillStyle = "#fff";
    context.fillRect(right - length, bottom - 3 * ratio, length, 3 * ratio);
    this.text(context, bar.text, right - length / 2, bottom - 7 * ratio, "center", "bottom", ratio);
  }

  text(context, words, x, y, align, base, ratio) {
    context.font = `600 ${11.5 * ratio}px system-ui, sans-serif`;
    context.textAlign = align;
    context.textBaseline = base;
    context.lineJoin = "round";
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "rgba(0,0,0,0.75)";
    context.strokeText(words, x, y);
    context.fillStyle = "#fff";
    context.fillText(words, x, y);
  }

  // ---- hands

  /** Source pixel, with fraction, under a pointer event. */
  pointOf(event) {
    const box = this.well.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const { scale, left, top } = place(this.canvas, ...this.size, this.view);
    return [((event.clientX - box.left) * ratio - left) / scale, ((event.clientY - box.top) * ratio - top) / scale];
  }

  listen() {
    const { well } = this;
    well.addEventListener("pointerdown", (event) => this.down(event));
    well.addEventListener("pointermove", (event) => this.moved(event));
    for (const kind of ["pointerup", "pointercancel"]) well.addEventListener(kind, (event) => this.up(event));
    well.addEventListener("pointerleave", () => this.room.cursor(""));
    well.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    well.addEventListener("keydown", (event) => this.key(event));
    well.addEventListener("dblclick", () => this.zoomTo(1));
    this.box?.addEventListener("change", () => {
      const value = this.box.valueAsNumber;
      if (Number.isFinite(value)) this.room.positions.move({ [this.axes.through]: value });
    });
    const acts = { in: () => this.zoomBy(1.5), out: () => this.zoomBy(1 / 1.5), fit: () => this.zoomTo(1), big: () => this.room.enlarge(this.plane) };
    for (const button of this.figure.querySelectorAll("button[data-act]")) {
      button.addEventListener("click", () => acts[button.dataset.act]());
    }
  }

  down(event) {
    if (!this.painted || event.button > 1) return;
    this.well.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.mode = event.shiftKey || event.button === 1 ? "pan" : this.nearAxis(event) ? "axis" : "cross";
    if (this.pointers.size === 2) this.mode = "pinch";
    if (event.button === 1) event.preventDefault();
    this.drag(event);
  }

  moved(event) {
    this.tell(event);
    this.well.style.cursor = this.nearAxis(event) ? "ew-resize" : "";
    if (this.pointers.has(event.pointerId)) this.drag(event);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.ghost !== null) {
      if (event.type === "pointerup") this.room.setCenter(Math.round(this.ghost * 10) / 10);
      this.ghost = null;
      this.mark();
    }
  }

  nearAxis(event) {
    const center = this.room.subject()?.center;
    if (this.plane !== "projection" || !this.painted || !this.room.control()) return false;
    if (center === null || center === undefined) return false;
    const { scale } = place(this.canvas, ...this.size, this.view);
    const ratio = window.devicePixelRatio || 1;
    return Math.abs(this.pointOf(event)[0] - center - 0.5) * scale < GRAB_PX * ratio;
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    const now = [event.clientX, event.clientY];
    if (this.mode === "pinch" && this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      this.zoomBy(spread(now) / spread(before), event);
    } else if (this.mode === "pan") this.pan(now[0] - before[0], now[1] - before[1]);
    else if (this.mode === "axis") {
      this.ghost = Math.min(this.size[0] - 1, Math.max(0, this.pointOf(event)[0] - 0.5));
      this.mark();
    } else if (this.mode === "cross") this.cross(...this.pointOf(event));
    this.pointers.set(event.pointerId, now);
  }

  cross(column, row) {
    const { across, down } = this.axes;
    const wanted = { [down]: Math.floor(row) };
    if (this.plane !== "projection") wanted[across] = Math.floor(column);
    this.room.positions.move(wanted);
  }

  step(axis, by) {
    this.room.positions.move({ [axis]: this.room.positions.at[axis] + by });
  }

  wheeled(event) {
    event.preventDefault();
    if (event.ctrlKey || !this.axes.through) return this.zoomBy(Math.exp(-event.deltaY / 400), event);
    this.wheel += event.deltaY * (event.deltaMode === 1 ? 20 : 1);
    const steps = Math.trunc(this.wheel / WHEEL_STEP);
    this.wheel -= steps * WHEEL_STEP;
    if (steps) this.step(this.axes.through, steps);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = event.shiftKey ? 10 : 1;
    const { across, down, through } = this.axes;
    const sideways = (sign) => this.plane === "projection" ? this.room.nudgeCenter(sign * by * 0.1) : this.step(across, sign * by);
    const acts = {
      ArrowLeft: () => sideways(-1),
      ArrowRight: () => sideways(1),
      ArrowUp: () => this.step(down, -by),
      ArrowDown: () => this.step(down, by),
      PageUp: () => through && this.step(through, 10),
      PageDown: () => through && this.step(through, -10),
      ".": () => through && this.step(through, 1),
      ",": () => through && this.step(through, -1),
      "+": () => this.zoomBy(1.5),
      "=": () => this.zoomBy(1.5),
      "-": () => this.zoomBy(1 / 1.5),
      0: () => this.zoomTo(1),
      Enter: () => this.room.enlarge(this.plane),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  zoomTo(zoom) {
    this.view = zoom === 1 ? { zoom: 1, x: 0.5, y: 0.5 } : { ...this.view, zoom };
    this.show();
    this.room.viewed();
  }

  /** Zoom so that what is under the pointer, or else under the cross-hair, stays where it is. */
  zoomBy(factor, event) {
    if (!this.painted) return;
    const [width, height] = this.size;
    const zoom = Math.min(64, Math.max(1, this.view.zoom * factor));
    if (zoom === 1) return this.zoomTo(1);
    const at = this.room.positions.at;
    const fixed = event ? this.pointOf(event) : [(at[this.axes.across] ?? width / 2) + 0.5, at[this.axes.down] + 0.5];
    const old = place(this.canvas, width, height, this.view);
    const spot = [old.left + fixed[0] * old.scale, old.top + fixed[1] * old.scale];
    const scale = (old.scale / this.view.zoom) * zoom;
    this.view = {
      zoom,
      x: (this.canvas.width / 2 - spot[0] + fixed[0] * scale) / (width * scale),
      y: (this.canvas.height / 2 - spot[1] + fixed[1] * scale) / (height * scale),
    };
    this.keepInside();
  }

  pan(dx, dy) {
    const [width, height] = this.size;
    const { scale } = place(this.canvas, width, height, this.view);
    const ratio = window.devicePixelRatio || 1;
    this.view = { zoom: this.view.zoom, x: this.view.x - (dx * ratio) / (width * scale), y: this.view.y - (dy * ratio) / (height * scale) };
    this.keepInside();
  }

  keepInside() {
    const clamp = (value) => Math.min(1, Math.max(0, value));
    this.view = { ...this.view, x: clamp(this.view.x), y: clamp(this.view.y) };
    this.show();
    this.room.viewed();
  }

  /** Say what is under the pointer. */
  tell(event) {
    if (!this.picture) return;
    const [width, height] = this.size;
    const [column, row] = this.pointOf(event).map(Math.floor);
    if (!(column >= 0 && column < width && row >= 0 && row < height)) return this.room.cursor("");
    const { across, down, through } = this.axes;
    const { units, of } = this.picture.known;
    const size = of.pixel_size_um;
    const where = (name, value) => `${name} ${value}` + (size ? ` (${number(value * size, 4)} µm)` : " px");
    const [r, c] = [row, column].map((index) => Math.floor(index / this.picture.binning));
    const value = valueAt(this.picture, Math.min(r, this.picture.rows - 1), Math.min(c, this.picture.columns - 1));
    const said = Number.isNaN(value) ? "not a number" : `${number(value, 4)} ${units}`;
    const places = [where(across, column), where(down === "z" && !through ? "row" : down, row)];
    if (through) places.push(where(through, this.picture.position));
    this.room.cursor(`${this.axes.name}   ${places.join("   ")}   value ${said}`);
  }
}
