// Which way each picture looks: across and down its pixels, and the axis that it is moved along.

export const AXES = {
  xy: { across: "x", down: "y", through: "z", name: "XY", hint: "seen along the rotation axis" },
  xz: { across: "x", down: "z", through: "y", name: "XZ", hint: "seen from the side" },
  yz: { across: "y", down: "z", through: "x", name: "YZ", hint: "seen from the side" },
  projection: { across: "column", down: "z", through: null, name: "Projection", hint: "newest" },
};

/** The plane that cuts the volume at one position of this axis. */
export const PLANE_THROUGH = { x: "yz", y: "xz", z: "xy" };

const SEND_EVERY_MS = 60;
const TRUST_MS = 2000;

/** Where the three planes are: what this page asked for at once, what the server says soon after. */
export class Positions {
  constructor(send, changed) {
    this.send = send;
    this.changed = changed;
    this.at = { x: 0, y: 0, z: 0 };
    this.size = { x: 0, y: 0, z: 0 };
    this.touched = { x: -Infinity, y: -Infinity, z: -Infinity };
    this.waiting = {};
    this.timer = null;
  }

  /** Take what the server says, but not while it still works on what was asked here. */
  update(pictures) {
    const { xy, xz, yz } = pictures;
    this.size = { x: xy?.columns ?? xz?.columns ?? 0, y: xy?.rows ?? yz?.columns ?? 0, z: xz?.rows ?? yz?.rows ?? 0 };
    for (const [axis, plane] of Object.entries(PLANE_THROUGH)) {
      const said = pictures[plane]?.position;
      if (said === undefined || said === null) continue;
      if (said === this.at[axis]) this.touched[axis] = -Infinity;
      if (performance.now() - this.touched[axis] > TRUST_MS) this.at[axis] = said;
    }
  }

  move(wanted) {
    let moved = false;
    for (const [axis, value] of Object.entries(wanted)) {
      if (!this.size[axis]) continue;
      const position = Math.min(this.size[axis] - 1, Math.max(0, Math.round(value)));
      if (!Number.isFinite(position) || position === this.at[axis]) continue;
      this.at[axis] = position;
      this.touched[axis] = performance.now();
      this.waiting[axis] = position;
      moved = true;
    }
    if (!moved) return;
    this.changed();
    if (this.timer === null) {
      this.flush();
      this.timer = setTimeout(() => {
        this.timer = null;
        this.flush();
      }, SEND_EVERY_MS);
    }
  }

  flush() {
    for (const [axis, position] of Object.entries(this.waiting)) {
      this.send({ type: "position", plane: PLANE_THROUGH[axis], position });
    }
    this.waiting = {};
  }
}
