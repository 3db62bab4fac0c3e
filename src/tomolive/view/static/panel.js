// One picture: its canvas, and which part of it is shown how large.

import { paint, place, show } from "./draw.js";
import { listen } from "./hands.js";
import { drawMarks } from "./marks.js";
import { AXES } from "./planes.js";
import { valueAt } from "./protocol.js";
import { number } from "./units.js";

const WHOLE = { zoom: 1, x: 0.5, y: 0.5 };

/**
 * @typedef {object} Room What the panels share.
 * @property {import("./planes.js").Places} places
 * @property {() => any} status
 * @property {() => any} subject
 * @property {() => boolean} control
 * @property {(name: string) => string} color
 * @property {(words: string) => void} cursor
 * @property {() => void} viewed
 * @property {(plane: string) => void} enlarge
 * @property {(column: number) => void} setCenter
 * @property {(by: number) => void} nudgeCenter
 */

export class Panel {
  /**
   * @param {HTMLElement} figure
   * @param {string} plane
   * @param {Room} room
   */
  constructor(figure, plane, room) {
    this.figure = figure;
    this.plane = plane;
    this.axes = AXES[plane];
    this.stretched = plane === "sinogram";
    this.room = room;
    this.well = figure.querySelector(".well");
    this.canvas = figure.querySelector(".picture");
    this.marks = figure.querySelector(".marks");
    this.boxes = [...figure.querySelectorAll("input")];
    this.view = WHOLE;
    /** @type {import("./protocol.js").Picture | null} */
    this.picture = null;
    this.painted = null;
    /** What the marks were drawn for. */
    this.marked = "";
    /** Where the rotation axis is while it is dragged. */
    this.ghost = null;
    new ResizeObserver(() => this.resize()).observe(this.well);
    listen(this);
  }

  /** Width and height in source pixels, whatever was averaged on the way. */
  get size() {
    const known = this.picture?.known ?? this.room.status()?.pictures?.[this.room.places.key(this.plane)];
    return known ? [known.columns, known.rows] : [1, 1];
  }

  /** Where the picture lies on the canvas. */
  get place() {
    const [width, height] = this.size;
    return place(this.canvas, width, height, this.view, this.stretched);
  }

  /** Device pixels of the longer side, for the server to average to. */
  get wanted() {
    const [width, height] = this.size;
    const { scale, down } = this.place;
    const pixels = this.picture ? Math.max(width * scale, height * down) : Math.max(this.canvas.width, this.canvas.height);
    return Math.round(Math.min(16384, Math.max(16, pixels)));
  }

  /** The detector column where the rotation axis is drawn, and how wide a detector column is in this picture. */
  get axis() {
    const subject = this.room.subject();
    const center = this.ghost ?? subject?.center;
    if (this.axes.across !== "column" || center === null || center === undefined) return null;
    const columns = (this.room.places.size.x || this.size[0]) * (subject?.corrections?.binning ?? 1);
    const wide = this.size[0] / columns;
    return { center, wide, x: (center + 0.5) * wide };
  }

  resize() {
    const { width, height } = this.well.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.marks]) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(height * ratio));
    }
    this.marked = "";
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

  show() {
    if (!this.painted) return;
    show(this.canvas, this.painted, ...this.size, this.view, this.stretched);
    this.mark();
  }

  mark() {
    drawMarks(this);
  }

  // ---- zoom

  zoomTo(zoom) {
    this.view = zoom === 1 ? WHOLE : { ...this.view, zoom };
    this.show();
    this.room.viewed();
  }

  /** Zoom so that what is under the pointer, or else under the cross-hair, stays where it is. */
  zoomBy(factor, event) {
    if (!this.painted) return;
    const [width, height] = this.size;
    const zoom = Math.min(64, Math.max(1, this.view.zoom * factor));
    if (zoom === 1) return this.zoomTo(1);
    const at = this.room.places.at;
    const middle = [at[this.axes.across] ?? width / 2, at[this.axes.down] ?? height / 2];
    const fixed = event ? this.pointOf(event) : middle.map((value) => value + 0.5);
    const old = this.place;
    const [scale, down] = [old.scale, old.down].map((value) => (value / this.view.zoom) * zoom);
    this.keepInside({
      zoom,
      x: (this.canvas.width / 2 - old.left - fixed[0] * old.scale + fixed[0] * scale) / (width * scale),
      y: (this.canvas.height / 2 - old.top - fixed[1] * old.down + fixed[1] * down) / (height * down),
    });
  }

  pan(dx, dy) {
    const [width, height] = this.size;
    const { scale, down } = this.place;
    const ratio = window.devicePixelRatio || 1;
    const { zoom, x, y } = this.view;
    this.keepInside({ zoom, x: x - (dx * ratio) / (width * scale), y: y - (dy * ratio) / (height * down) });
  }

  keepInside(view) {
    const clamp = (value) => Math.min(1, Math.max(0, value));
    this.view = { ...view, x: clamp(view.x), y: clamp(view.y) };
    this.show();
    this.room.viewed();
  }

  // ---- what is under the pointer

  /**
   * Source pixel, with fraction, under a pointer event.
   * @returns {[number, number]}
   */
  pointOf(event) {
    const box = this.well.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const { scale, down, left, top } = this.place;
    return [((event.clientX - box.left) * ratio - left) / scale, ((event.clientY - box.top) * ratio - top) / down];
  }

  tell(event) {
    if (!this.picture) return;
    const [width, height] = this.size;
    const [column, row] = this.pointOf(event).map(Math.floor);
    if (!(column >= 0 && column < width && row >= 0 && row < height)) return this.room.cursor("");
    const [r, c] = [row, column].map((index) => Math.floor(index / this.picture.binning));
    const value = valueAt(this.picture, Math.min(r, this.picture.rows - 1), Math.min(c, this.picture.columns - 1));
    const said = Number.isNaN(value) ? "not a number" : `${number(value, 4)} ${this.picture.known.units}`;
    this.room.cursor(`${this.axes.name}   ${this.where(column, row).join("   ")}   value ${said}`);
  }

  where(column, row) {
    const { across, down, through } = this.axes;
    const { pixel_size_um: detector, corrections } = this.picture.known.of;
    const size = through || this.plane === "oblique" ? detector && detector * (corrections?.binning ?? 1) : detector;
    const told = (name, value) => `${name} ${number(value, 5)}` + (size ? ` (${number(value * size, 4)} µm)` : " px");
    if (this.plane === "oblique") {
      const point = this.room.places.inVolume(column, row);
      return ["x", "y", "z"].map((axis) => told(axis, Math.round(point[axis])));
    }
    if (this.plane === "sinogram") return [told(across, column), `line ${row} of ${this.size[1]}`];
    const places = [told(across, column), told(through ? down : "row", row)];
    return through ? [...places, told(through, this.picture.position)] : places;
  }
}
