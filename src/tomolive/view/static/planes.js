// Which way each picture looks, and where this person's planes lie: nobody else's move with them.

/**
 * @typedef {"x" | "y" | "z"} Axis
 * @typedef {{tilt: number, turn: number, offset: number}} Oblique degrees, degrees, pixels from the middle
 */

/** Across and down its pixels, and the axis that it is moved along. */
export const AXES = {
  xy: { across: "x", down: "y", through: "z", name: "XY", hint: "seen along the rotation axis" },
  xz: { across: "x", down: "z", through: "y", name: "XZ", hint: "seen from the side" },
  yz: { across: "y", down: "z", through: "x", name: "YZ", hint: "seen from the side" },
  oblique: { across: null, down: null, through: null, name: "Oblique", hint: "drag to turn" },
  sinogram: { across: "column", down: null, through: null, name: "Sinogram", hint: "of the row of the cross-hair" },
  projection: { across: "column", down: "z", through: null, name: "Projection", hint: "newest" },
};

/** The plane that cuts the volume at one position of this axis. */
export const PLANE_THROUGH = { x: "yz", y: "xz", z: "xy" };

/** Slices share their levels; the other two have their own. */
export const groupOf = (/** @type {string} */ plane) => (plane === "projection" || plane === "sinogram" ? plane : "slices");

const LIMITS = { tilt: 180, turn: 180 };
export const LEVEL = { tilt: 35, turn: 30, offset: 0 };

export class Places {
  /** @param {() => void} changed called when a plane has moved */
  constructor(changed) {
    this.changed = changed;
    /** @type {Record<Axis, number | null>} null: where the results have it */
    this.own = { x: null, y: null, z: null };
    this.results = { x: 0, y: 0, z: 0 };
    this.size = { x: 0, y: 0, z: 0 };
    /** @type {Oblique} */
    this.oblique = { ...LEVEL };
  }

  /** @returns {Record<Axis, number>} */
  get at() {
    const { own, results } = this;
    return { x: own.x ?? results.x, y: own.y ?? results.y, z: own.z ?? results.z };
  }

  /** Take what the server says of the volume, and tell whether its size is new. One of another size is looked at where the old one was. */
  update(status) {
    const { xy, xz, yz } = status.pictures;
    const [rows, down, across] = status.volume_shape ?? [xz?.rows ?? yz?.rows ?? 0, xy?.rows ?? yz?.columns ?? 0, xy?.columns ?? xz?.columns ?? 0];
    const size = { x: across, y: down, z: rows };
    let moved = false;
    for (const [axis, plane] of Object.entries(PLANE_THROUGH)) {
      const old = this.size[axis];
      const own = this.own[axis];
      if (size[axis] && own !== null) {
        const wanted = old && old !== size[axis] ? ((own + 0.5) * size[axis]) / old - 0.5 : own;
        this.own[axis] = this.within(axis, wanted, size);
        moved ||= this.own[axis] !== own;
      }
      const said = status.pictures[plane]?.position;
      this.results[axis] = said ?? (old === size[axis] ? this.results[axis] : Math.floor(size[axis] / 2));
    }
    const same = !rows || Object.entries(size).every(([axis, length]) => this.size[axis] === length);
    if (rows) this.size = size;
    if (moved) this.changed();
    return !same;
  }

  within(axis, value, size = this.size) {
    return Math.min(size[axis] - 1, Math.max(0, Math.round(value)));
  }

  /** @param {Partial<Record<Axis, number>>} wanted */
  move(wanted) {
    let moved = false;
    for (const [axis, value] of Object.entries(wanted)) {
      if (!this.size[axis] || !Number.isFinite(value)) continue;
      const position = this.within(axis, value);
      if (position === this.at[axis]) continue;
      this.own[axis] = position === this.results[axis] ? null : position;
      moved = true;
    }
    if (moved) this.changed();
  }

  /** @param {Partial<Oblique>} wanted */
  turn(wanted) {
    const next = { ...this.oblique };
    for (const [name, value] of Object.entries(wanted)) {
      if (!Number.isFinite(value)) continue;
      const far = this.size.x + this.size.z || 1e4;
      const limit = LIMITS[name] ?? far;
      // Turning goes on beyond half a turn; moving away ends.
      const wrapped = name in LIMITS && Math.abs(value) > limit ? value - 2 * limit * Math.sign(value) : value;
      next[name] = Math.round(Math.min(limit, Math.max(-limit, wrapped)) * 10) / 10 + 0;
    }
    if (["tilt", "turn", "offset"].every((name) => next[name] === this.oblique[name])) return;
    this.oblique = next;
    this.changed();
  }

  /** The name of the picture that a panel shows now; empty while nobody knows how large the volume is. */
  key(plane) {
    const known = this.size.z > 0;
    if (!known) return plane === "oblique" || plane === "sinogram" ? "" : plane;
    if (plane === "oblique") return `oblique@${this.oblique.tilt},${this.oblique.turn},${this.oblique.offset}`;
    if (plane === "sinogram") return `sinogram@${this.at.z}`;
    const axis = AXES[plane]?.through;
    return axis && this.own[axis] !== null ? `${plane}@${this.own[axis]}` : plane;
  }

  /** Where the oblique plane cuts one of the three: two numbers a, b, c with a across + b down = c, in pixels; see tomolive.recon.oblique. */
  trace(plane) {
    const [tilt, turn] = [this.oblique.tilt, this.oblique.turn].map((degrees) => (degrees * Math.PI) / 180);
    const normal = { z: Math.cos(tilt), y: -Math.sin(tilt) * Math.cos(turn), x: Math.sin(tilt) * Math.sin(turn) };
    const middle = { x: (this.size.x - 1) / 2, y: (this.size.y - 1) / 2, z: (this.size.z - 1) / 2 };
    const { across, down, through } = AXES[plane];
    const c = this.oblique.offset - normal[through] * (this.at[through] - middle[through]) + normal[across] * middle[across] + normal[down] * middle[down];
    return { a: normal[across], b: normal[down], c };
  }

  /** The place in the volume of a pixel of the oblique picture. */
  inVolume(column, row) {
    const { tilt, turn, offset } = this.oblique;
    const [t, u] = [tilt, turn].map((degrees) => (degrees * Math.PI) / 180);
    const [i, j] = [row - (this.size.x - 1) / 2, column - (this.size.x - 1) / 2];
    return {
      x: (this.size.x - 1) / 2 + offset * Math.sin(t) * Math.sin(u) - i * Math.cos(t) * Math.sin(u) + j * Math.cos(u),
      y: (this.size.y - 1) / 2 - offset * Math.sin(t) * Math.cos(u) + i * Math.cos(t) * Math.cos(u) + j * Math.sin(u),
      z: (this.size.z - 1) / 2 + offset * Math.cos(t) + i * Math.sin(t),
    };
  }
}
