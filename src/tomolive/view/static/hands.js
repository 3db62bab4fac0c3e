// The hands on one picture: mouse, fingers, wheel and keys. Slices move each other, the oblique one turns.

const GRAB_PX = 10;
const WHEEL_STEP = 60;
const DEGREES_A_PIXEL = 0.5;

/** @typedef {import("./panel.js").Panel} Panel */

/** Let hands move a panel. */
export function listen(/** @type {Panel} */ panel) {
  const hands = new Hands(panel);
  const { well, figure } = panel;
  well.addEventListener("pointerdown", (event) => hands.down(event));
  well.addEventListener("pointermove", (event) => hands.moved(event));
  for (const kind of ["pointerup", "pointercancel"]) well.addEventListener(kind, (event) => hands.up(event));
  well.addEventListener("pointerleave", () => panel.room.cursor(""));
  well.addEventListener("wheel", (event) => hands.wheeled(event), { passive: false });
  well.addEventListener("keydown", (event) => hands.key(event));
  well.addEventListener("dblclick", () => panel.zoomTo(1));
  for (const box of panel.boxes) {
    box.addEventListener("change", () => {
      if (!box.readOnly && Number.isFinite(box.valueAsNumber)) hands.put(box.dataset.moves, box.valueAsNumber);
    });
  }
  const acts = { in: () => panel.zoomBy(1.5), out: () => panel.zoomBy(1 / 1.5), fit: () => panel.zoomTo(1), big: () => panel.room.enlarge(panel.plane) };
  for (const button of figure.querySelectorAll("button[data-act]")) {
    button.addEventListener("click", () => acts[button.dataset.act]());
  }
}

class Hands {
  constructor(/** @type {Panel} */ panel) {
    this.panel = panel;
    this.pointers = new Map();
    this.mode = "";
    this.wheel = 0;
    this.turned = null;
  }

  get places() {
    return this.panel.room.places;
  }

  /** Put a plane somewhere: an axis of the volume, or tilt, turn, offset. */
  put(name, value) {
    if (this.panel.plane === "oblique") this.places.turn({ [name]: value });
    else this.places.move({ [name]: value });
  }

  step(name, by) {
    if (!name) return;
    this.put(name, (this.panel.plane === "oblique" ? this.places.oblique[name] : this.places.at[name]) + by);
  }

  down(event) {
    const { panel } = this;
    if (!panel.painted || event.button > 1) return;
    panel.well.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const own = { oblique: "turn", sinogram: "" }[panel.plane] ?? "cross";
    this.mode = event.shiftKey || event.button === 1 ? "pan" : this.nearAxis(event) ? "axis" : own;
    if (this.pointers.size === 2) this.mode = "pinch";
    if (event.button === 1) event.preventDefault();
    this.turned = { ...this.places.oblique, from: [event.clientX, event.clientY] };
    this.drag(event);
  }

  moved(event) {
    this.panel.tell(event);
    this.panel.well.style.cursor = this.nearAxis(event) ? "ew-resize" : "";
    if (this.pointers.has(event.pointerId)) this.drag(event);
  }

  up(event) {
    const { panel } = this;
    if (!this.pointers.delete(event.pointerId) || panel.ghost === null) return;
    if (event.type === "pointerup") panel.room.setCenter(Math.round(panel.ghost * 10) / 10);
    panel.ghost = null;
    panel.mark();
  }

  nearAxis(event) {
    const { panel } = this;
    const axis = panel.axis;
    if (!axis || !panel.painted || !panel.room.control()) return false;
    return Math.abs(panel.pointOf(event)[0] - axis.x) * panel.place.scale < GRAB_PX * (window.devicePixelRatio || 1);
  }

  drag(event) {
    const { panel } = this;
    const before = this.pointers.get(event.pointerId);
    /** @type {[number, number]} */
    const now = [event.clientX, event.clientY];
    if (this.mode === "pinch" && this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      panel.zoomBy(spread(now) / spread(before), event);
    } else if (this.mode === "pan") panel.pan(now[0] - before[0], now[1] - before[1]);
    else if (this.mode === "axis") {
      panel.ghost = Math.min(panel.size[0] - 1, Math.max(0, panel.pointOf(event)[0])) / panel.axis.wide - 0.5;
      panel.mark();
    } else if (this.mode === "cross") this.cross(...panel.pointOf(event));
    else if (this.mode === "turn") this.turn(now);
    this.pointers.set(event.pointerId, now);
  }

  cross(column, row) {
    const { across, down, through } = this.panel.axes;
    this.places.move(through ? { [across]: Math.floor(column), [down]: Math.floor(row) } : { [down]: Math.floor(row) });
  }

  /** Sideways turns about the rotation axis, up and down tilts; in whole degrees, from where the drag began. */
  turn([x, y]) {
    const { tilt, turn, from } = this.turned;
    this.places.turn({
      turn: Math.round(turn + (x - from[0]) * DEGREES_A_PIXEL),
      tilt: Math.round(tilt + (y - from[1]) * DEGREES_A_PIXEL),
    });
  }

  wheeled(event) {
    const { panel } = this;
    event.preventDefault();
    const along = { oblique: "offset", sinogram: "z" }[panel.plane] ?? panel.axes.through;
    if (event.ctrlKey || !along) return panel.zoomBy(Math.exp(-event.deltaY / 400), event);
    this.wheel += event.deltaY * (event.deltaMode === 1 ? 20 : 1);
    const steps = Math.trunc(this.wheel / WHEEL_STEP);
    this.wheel -= steps * WHEEL_STEP;
    if (steps) this.step(along, steps);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { panel } = this;
    const by = event.shiftKey ? 10 : 1;
    const { across, down, through } = panel.axes;
    const oblique = panel.plane === "oblique";
    const along = { oblique: "offset", sinogram: "z" }[panel.plane] ?? through;
    const sideways = (sign) => {
      if (across === "column") panel.room.nudgeCenter(sign * by * 0.1);
      else this.step(oblique ? "turn" : across, sign * by);
    };
    const upwards = (sign) => this.step(oblique ? "tilt" : (down ?? "z"), sign * by);
    const acts = {
      ArrowLeft: () => sideways(-1),
      ArrowRight: () => sideways(1),
      ArrowUp: () => upwards(-1),
      ArrowDown: () => upwards(1),
      PageUp: () => this.step(along, 10),
      PageDown: () => this.step(along, -10),
      ".": () => this.step(along, 1),
      ",": () => this.step(along, -1),
      "+": () => panel.zoomBy(1.5),
      "=": () => panel.zoomBy(1.5),
      "-": () => panel.zoomBy(1 / 1.5),
      0: () => panel.zoomTo(1),
      Enter: () => panel.room.enlarge(panel.plane),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }
}
