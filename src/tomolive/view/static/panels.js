// All pictures: one of them large, their captions, and what the server shall send for them.

import { Panel } from "./panel.js";
import { AXES } from "./planes.js";
import { placeOf } from "./save.js";
import { honesty } from "./topline.js";
import { mark, write } from "./write.js";

const BOXES = {
  oblique: [["tilt", "tilt °"], ["turn", "turn °"], ["offset", "offset"]],
  sinogram: [["z", "row"]],
  projection: [[null, "frame"]],
};
const LABELS = {
  tilt: "Tilt of the oblique slice, degrees",
  turn: "Turn of the oblique slice, degrees",
  offset: "Offset of the oblique slice from the middle, pixels",
};
const HELP = {
  oblique: "Oblique slice. Left and right turn it, up and down tilt it, comma and full stop move it, plus and minus zoom.",
  sinogram: "Sinogram of one detector row. Left and right move the rotation axis by 0.1 pixels, up and down choose the row.",
  projection: "Projection with the rotation axis. Left and right move the axis by 0.1 pixels, up and down choose the row.",
};

export class Panels {
  /**
   * @param {HTMLElement} home
   * @param {HTMLTemplateElement} panelTemplate
   * @param {HTMLTemplateElement} placeTemplate
   * @param {import("./hash.js").View} view
   * @param {Omit<import("./panel.js").Room, "enlarge">} room
   */
  constructor(home, panelTemplate, placeTemplate, view, room) {
    this.room = { ...room, enlarge: (plane) => this.enlarge(plane), viewed: () => this.viewed() };
    this.outer = room;
    this.big = view.big in AXES ? view.big : "xy";
    /** @type {Panel[]} */
    this.list = Object.keys(AXES).map((plane) => {
      const figure = makeFigure(plane, panelTemplate, placeTemplate);
      home.append(figure);
      const panel = new Panel(figure, plane, this.room);
      if (view.zoom[plane]) panel.view = view.zoom[plane];
      return panel;
    });
    this.layout();
  }

  /** A panel that has a picture; undefined if none has. */
  get some() {
    return this.list.find((panel) => panel.picture);
  }

  /** What the server shall send: keys, and device pixels of the longer side. */
  wanted() {
    const keys = this.list.map((panel) => [this.room.places.key(panel.plane), panel.wanted]);
    return Object.fromEntries(keys.filter(([key]) => key));
  }

  zooms() {
    return Object.fromEntries(this.list.map((panel) => [panel.plane, panel.view]));
  }

  enlarge(plane) {
    this.big = plane === this.big ? "xy" : plane;
    this.layout();
    this.outer.viewed();
  }

  layout() {
    const small = this.list.filter((panel) => panel.plane !== this.big);
    for (const panel of this.list) {
      const big = panel.plane === this.big;
      panel.figure.classList.toggle("big", big);
      panel.figure.classList.toggle("wide", panel === small.at(-1));
      panel.figure.querySelector("[data-act=big]").setAttribute("aria-pressed", String(big));
    }
  }

  viewed() {
    for (const panel of this.list ?? []) {
      const zoomed = panel.view.zoom > 1.001;
      write(panel.figure.querySelector(".zoom"), { textContent: zoomed ? `${panel.view.zoom.toFixed(1)}×` : "" });
      write(panel.figure.querySelector("[data-act=fit]"), { disabled: !zoomed });
    }
    this.outer.viewed();
  }

  /** The state has changed. */
  update() {
    for (const panel of this.list) caption(panel, this.room.status());
    this.mark();
  }

  /**
   * @param {Record<string, import("./protocol.js").Picture>} fresh by plane
   * @param {(plane: string) => [number, number]} levels
   * @param {Uint8Array} table
   */
  draw(fresh, levels, table) {
    for (const panel of this.list) {
      if (!fresh[panel.plane]) continue;
      panel.draw(fresh[panel.plane], levels(panel.plane), table);
      caption(panel, this.room.status());
    }
    this.mark();
  }

  recolor(which, levels, table) {
    for (const panel of this.list) if (which(panel.plane)) panel.recolor(levels(panel.plane), table);
  }

  /** Draw all marks anew, and put the numbers into the boxes. */
  mark() {
    const { places } = this.room;
    for (const panel of this.list ?? []) {
      panel.mark();
      for (const box of panel.boxes) fill(box, panel, places);
      const { through } = panel.axes;
      write(panel.figure.querySelector(".of"), { textContent: through && places.size[through] ? `of ${places.size[through]}` : "" });
    }
  }
}

function makeFigure(plane, panelTemplate, placeTemplate) {
  const { name, hint, through } = AXES[plane];
  const figure = panelTemplate.content.firstElementChild.cloneNode(true);
  figure.dataset.plane = plane;
  figure.querySelector("h2").textContent = name;
  figure.querySelector(".hint").textContent = hint;
  for (const [moves, words] of BOXES[plane] ?? [[through, through]]) {
    const label = placeTemplate.content.firstElementChild.cloneNode(true);
    label.querySelector(".axis").textContent = words;
    const box = label.querySelector("input");
    box.readOnly = moves === null;
    if (moves) box.dataset.moves = moves;
    if (through || moves === "z") box.min = "0";
    box.setAttribute("aria-label", LABELS[moves] ?? labelOf(plane, moves));
    if (LABELS[moves]) label.title = LABELS[moves];
    figure.querySelector(".position").append(label);
  }
  const words = HELP[plane] ?? `${name} slice. Arrow keys move the cross-hair, comma and full stop the slice, plus and minus zoom.`;
  figure.querySelector(".well").setAttribute("aria-label", words);
  for (const button of figure.querySelectorAll("button")) button.setAttribute("aria-label", `${button.title}: ${name}`);
  return figure;
}

function labelOf(plane, moves) {
  if (plane === "sinogram") return "Detector row of the sinogram";
  return moves ? `Position of the ${AXES[plane].name} slice along ${moves}` : "Number of the projection shown";
}

/** Show in a box where the plane lies, unless someone types there. */
function fill(box, panel, places) {
  const { moves } = box.dataset;
  if (document.activeElement === box && !box.readOnly) return;
  const value = moves === undefined ? panel.picture?.position : panel.plane === "oblique" ? places.oblique[moves] : places.at[moves];
  write(box, { value: value === undefined ? "" : String(value) });
  if (moves in places.size) write(box, { max: String(Math.max(0, places.size[moves] - 1)) });
}

/** Say what a picture is, and what it is not. */
function caption(panel, status) {
  const { name, through } = panel.axes;
  const known = panel.picture?.known;
  const badge = panel.figure.querySelector(".badge");
  const [kind, words] = known ? honesty(known.of, status) : ["", ""];
  write(badge.querySelector(".kind"), { textContent: kind });
  write(badge.querySelector(".more"), { textContent: words && `: ${words}` });
  write(badge, { hidden: !kind || (kind === "partial" && !through && panel.plane !== "oblique") });
  const label = known
    ? `${name} at ${placeOf(panel)}, ${known.columns} by ${known.rows} pixels${kind ? `, ${kind} ${words}` : ""}`.trim()
    : `${name}: no picture yet`;
  mark(panel.canvas, { "aria-label": label });
}
