// One PNG with all pictures as they are shown, their scale, and where they come from.

import { paint } from "./draw.js";
import { AXES } from "./planes.js";
import { number, scaleBar } from "./units.js";

const GAP = 16;
const LABEL = 26;
const FOOT = 64;

/** Lines that say where the pictures come from: of what they are, whatever scan runs by now. */
export function provenance(of, levels, units) {
  const scan = [of.scan_id === null ? "" : `scan ${of.scan_id}`, of.run_uid, of.sample, of.plan];
  const frames = `${of.frames_received}${of.frames_planned === null ? "" : ` of ${of.frames_planned}`} projections`;
  const degrees = `${number(of.coverage, 4)} of ${number(of.coverage_wanted, 4)} degrees`;
  const center = `rotation centre ${number(of.center, 6)} (${of.center_source || "source unknown"})`;
  const range = `levels ${levels.slices.map((value) => number(value, 4)).join(" to ")} ${units}`;
  return [
    scan.filter(Boolean).join(" · "),
    [frames, `${of.frames_missing || "none"} missing`, degrees].join(" · "),
    [center, `filter ${of.filter}`, range.trim(), new Date().toISOString().slice(0, 19) + " UTC"].join(" · "),
  ];
}

/** Compose the pictures side by side; returns a canvas. */
export function compose(panels, levels, table) {
  const shown = panels.filter((panel) => panel.picture);
  const sizes = shown.map((panel) => panel.size);
  const tall = Math.min(1024, Math.max(256, ...sizes.map(([, height]) => height)));
  const scales = sizes.map(([width, height]) => Math.min(tall / height, (tall * 2) / width));
  const widths = sizes.map(([width], i) => Math.round(width * scales[i]));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(900, widths.reduce((total, width) => total + width + GAP, GAP));
  canvas.height = LABEL + tall + FOOT + GAP;
  const context = canvas.getContext("2d");
  context.fillStyle = "#0d0f12";
  context.fillRect(0, 0, canvas.width, canvas.height);
  let left = GAP;
  shown.forEach((panel, i) => {
    const [width, height] = sizes[i];
    const group = panel.plane === "projection" ? levels.projection : levels.slices;
    const painted = paint(panel.picture, group, table);
    context.imageSmoothingEnabled = scales[i] < 1;
    context.drawImage(painted, left, LABEL, widths[i], height * scales[i]);
    context.fillStyle = "#e8ebef";
    context.font = "600 14px system-ui, sans-serif";
    const { name, through } = AXES[panel.plane];
    context.fillText(`${name}  ${through ?? "frame"} ${panel.picture.position}`, left, LABEL - 9);
    drawBar(context, left + widths[i] - 10, LABEL + height * scales[i] - 10, scales[i], width, panel.picture.known.of.pixel_size_um);
    left += widths[i] + GAP;
  });
  context.font = "13px system-ui, sans-serif";
  context.fillStyle = "#c4ccd4";
  const { of, units } = shown[0].picture.known;
  provenance(of, levels, units).forEach((line, i) => context.fillText(line, GAP, LABEL + tall + 22 + 19 * i));
  return canvas;
}

function drawBar(context, right, bottom, scale, width, pixelSize) {
  const bar = scaleBar(width * 0.28, pixelSize);
  const length = bar.pixels * scale;
  context.fillStyle = "rgba(0,0,0,0.6)";
  context.fillRect(right - length - 5, bottom - 24, length + 10, 29);
  context.fillStyle = "#fff";
  context.fillRect(right - length, bottom - 3, length, 3);
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillText(bar.text, right - length / 2, bottom - 9);
  context.textAlign = "left";
}

/** Hand the picture to the browser as a file. */
export async function save(canvas, of) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `scan-${of.scan_id ?? "none"}-${of.run_uid.slice(0, 8)}-${of.frames_received}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
