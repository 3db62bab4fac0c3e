// What is drawn over a picture: cross-hair, rotation axis, the cut of the oblique plane, scale bar.

import { PLANE_THROUGH } from "./planes.js";
import { number, scaleBar } from "./units.js";

/** Draw all marks of a panel, if any of them is not where it was: they lie on a canvas of their own. */
export function drawMarks(/** @type {import("./panel.js").Panel} */ panel) {
  const canvas = panel.marks;
  if (!panel.painted) return;
  const { at, oblique } = panel.room.places;
  const now = JSON.stringify([canvas.width, canvas.height, panel.place, panel.size, at, oblique, panel.axis, pixelSize(panel), panel.room.color("xy")]);
  if (now === panel.marked) return;
  panel.marked = now;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const ratio = window.devicePixelRatio || 1;
  const { scale, down, left, top } = panel.place;
  const [width, height] = panel.size;
  const frame = {
    left: Math.max(0, left),
    top: Math.max(0, top),
    right: Math.min(canvas.width, left + width * scale),
    bottom: Math.min(canvas.height, top + height * down),
  };
  const pen = { context, frame, ratio };
  const { places, color } = panel.room;
  const { axes } = panel;
  const y = axes.down ? top + (places.at[axes.down] + 0.5) * down : null;
  const x = axes.through ? left + (places.at[axes.across] + 0.5) * scale : null;
  if (axes.through) drawTrace(pen, places.trace(panel.plane), left, top, scale, color("oblique"));
  if (y !== null) line(pen, "h", y, color(PLANE_THROUGH[axes.down]), x);
  if (x !== null) line(pen, "v", x, color(PLANE_THROUGH[axes.across]), y);
  const axis = panel.axis;
  if (axis) drawAxis(pen, left + axis.x * scale, axis.center, color("axis"), panel.plane === "projection");
  if (!panel.stretched) drawBar(pen, scale, pixelSize(panel));
}

/** Micrometres of a pixel of a panel's picture; null if nobody knows. */
export function pixelSize(panel) {
  const { pixel_size_um: size, corrections } = panel.picture.known.of;
  const binned = panel.plane === "projection" ? (panel.axis ? 1 / panel.axis.wide : 1) : (corrections?.binning ?? 1);
  return size ? size * binned : null;
}

/** A line across the picture, with a gap where it crosses another one at `crossing`. */
function line({ context, frame, ratio }, direction, at, color, crossing, dashes = []) {
  const upright = direction === "v";
  const [from, to] = upright ? [frame.top, frame.bottom] : [frame.left, frame.right];
  const [low, high] = upright ? [frame.left, frame.right] : [frame.top, frame.bottom];
  if (!(at >= low && at <= high)) return;
  const gap = 7 * ratio;
  const pieces = crossing === null ? [[from, to]] : [[from, crossing - gap], [crossing + gap, to]];
  const middle = Math.round(at) + 0.5;
  context.beginPath();
  for (const [a, b] of pieces) {
    if (b <= a) continue;
    if (upright) context.moveTo(middle, a), context.lineTo(middle, b);
    else context.moveTo(a, middle), context.lineTo(b, middle);
  }
  stroke(context, color, ratio, dashes);
}

/** Stroke the path in a colour, on a dark edge that keeps it visible on white. */
function stroke(context, color, ratio, dashes) {
  context.setLineDash(dashes.map((dash) => dash * ratio));
  for (const [style, width] of [["rgba(0,0,0,0.4)", 3], [color, 1.4]]) {
    context.strokeStyle = style;
    context.lineWidth = width * ratio;
    context.stroke();
  }
  context.setLineDash([]);
}

/** The line a u + b v = c of pixels, dotted. */
function drawTrace({ context, frame, ratio }, { a, b, c }, left, top, scale, color) {
  const far = (frame.right - frame.left + frame.bottom - frame.top) / scale;
  const length = Math.hypot(a, b);
  if (length < 1e-6) return;
  const [u, v] = [(a * c) / length ** 2, (b * c) / length ** 2];
  const device = (sign) => [left + (u - (sign * far * b) / length + 0.5) * scale, top + (v + (sign * far * a) / length + 0.5) * scale];
  context.save();
  context.beginPath();
  context.rect(frame.left, frame.top, frame.right - frame.left, frame.bottom - frame.top);
  context.clip();
  context.beginPath();
  context.moveTo(...device(-2));
  context.lineTo(...device(2));
  stroke(context, color, ratio * 0.8, [2, 4]);
  context.restore();
}

function drawAxis(pen, x, center, color, labelled) {
  line(pen, "v", x, color, null, [7, 4]);
  if (!labelled) return;
  const { frame, ratio } = pen;
  const right = x + 130 * ratio < frame.right;
  text(pen, `rotation axis ${number(center, 5)}`, x + (right ? 6 : -6) * ratio, frame.top + 6 * ratio, right ? "left" : "right", "top");
}

function drawBar(pen, scale, size) {
  const { context, frame, ratio } = pen;
  const bar = scaleBar(((frame.right - frame.left) / scale) * 0.28, size);
  const length = bar.pixels * scale;
  const right = frame.right - 12 * ratio;
  const bottom = frame.bottom - 12 * ratio;
  context.fillStyle = "rgba(0,0,0,0.6)";
  context.fillRect(right - length - ratio, bottom - 4 * ratio, length + 2 * ratio, 5 * ratio);
  context.fillStyle = "#fff";
  context.fillRect(right - length, bottom - 3 * ratio, length, 3 * ratio);
  text(pen, bar.text, right - length / 2, bottom - 7 * ratio, "center", "bottom");
}

function text({ context, ratio }, words, x, y, align, base) {
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
