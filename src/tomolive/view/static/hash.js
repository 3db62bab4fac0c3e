// What belongs to one person's view stands in the address: reload it, bookmark it, send it to a colleague.

import { AXES, LEVEL } from "./planes.js";

const numbers = (text) => (text ?? "").split(",").map((part) => (part === "" ? NaN : Number(part)));
const pair = (text) => {
  const values = numbers(text);
  return values.length === 2 && values.every(Number.isFinite) && values[0] < values[1] ? values : null;
};

/**
 * @typedef {object} View What belongs to one person's view.
 * @property {Record<string, [number, number] | null>} levels
 * @property {Record<string, {zoom: number, x: number, y: number}>} zoom
 * @property {Record<"x" | "y" | "z", number | null>} own
 * @property {{tilt: number, turn: number, offset: number}} oblique
 * @property {string | null} [colors]
 * @property {boolean} [inverted]
 * @property {string | null} [big]
 */

/** @returns {View} */
export function readHash(text = location.hash) {
  const query = new URLSearchParams(text.replace(/^#/, ""));
  /** @type {View} */
  const view = { levels: {}, zoom: {}, own: { x: null, y: null, z: null }, oblique: { ...LEVEL } };
  view.colors = query.get("colors");
  view.inverted = query.get("inverted") === "1";
  view.big = query.get("big");
  view.levels.slices = pair(query.get("levels"));
  view.levels.projection = pair(query.get("projection"));
  view.levels.sinogram = pair(query.get("sinogram"));
  for (const axis of ["x", "y", "z"]) {
    const value = query.has(axis) ? Number(query.get(axis)) : NaN;
    if (Number.isInteger(value) && value >= 0) view.own[axis] = value;
  }
  const [tilt, turn, offset] = numbers(query.get("oblique"));
  if ([tilt, turn, offset].every(Number.isFinite)) view.oblique = { tilt, turn, offset };
  for (const plane of Object.keys(AXES)) {
    const values = numbers(query.get(`zoom-${plane}`));
    if (values.length === 3 && values.every(Number.isFinite)) {
      view.zoom[plane] = { zoom: Math.min(64, Math.max(1, values[0])), x: values[1], y: values[2] };
    }
  }
  return view;
}

export function writeHash(/** @type {View} */ view) {
  const parts = [];
  const short = (value) => String(Number(value.toPrecision(6)));
  if (view.colors && view.colors !== "grey") parts.push(`colors=${view.colors}`);
  if (view.inverted) parts.push("inverted=1");
  if (view.big && view.big !== "xy") parts.push(`big=${view.big}`);
  for (const [axis, value] of Object.entries(view.own)) if (value !== null) parts.push(`${axis}=${value}`);
  const { tilt, turn, offset } = view.oblique;
  if (tilt !== LEVEL.tilt || turn !== LEVEL.turn || offset !== LEVEL.offset) parts.push(`oblique=${tilt},${turn},${offset}`);
  if (view.levels.slices) parts.push(`levels=${view.levels.slices.map(short)}`);
  for (const name of ["projection", "sinogram"]) if (view.levels[name]) parts.push(`${name}=${view.levels[name].map(short)}`);
  for (const [plane, { zoom, x, y }] of Object.entries(view.zoom)) {
    if (zoom > 1) parts.push(`zoom-${plane}=${short(zoom)},${x.toFixed(4)},${y.toFixed(4)}`);
  }
  const wanted = parts.length ? "#" + parts.join("&") : "";
  if (wanted !== location.hash) history.replaceState(null, "", location.pathname + location.search + wanted);
}
