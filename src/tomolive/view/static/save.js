// One PNG with all pictures as they are shown, their scale, and where they come from.

import { paint } from "./draw.js";
import { pixelSize } from "./marks.js";
import { AXES, groupOf } from "./planes.js";
import { number, scaleBar } from "./units.js";

const GAP = 16;
const LABEL = 26;
const FOOT = 72;
const IN_A_ROW = 3;

/** Lines that say where the pictures come from: of what they are, whatever scan runs by now. */
export function provenance(of, levels, units) {
  const scan = [of.scan_id === null ? "" : `scan ${of.scan_id}`, of.run_uid, of.sample, of.plan];
  const frames = `${of.frames_received}${of.frames_planned === null ? "" : ` of ${of.frames_planned}`} projections`;
  const dark = of.frames_without_beam && `${of.frames_without_beam} left out that saw no beam`;
  const degrees = `${number(of.coverage, 4)} of ${number(of.coverage_wanted, 4)} degrees`;
  const center = `rotation centre ${number(of.center, 6)} (${of.center_source || "source unknown"})`;
  const range = `levels ${levels.slices.map((value) => number(value, 4)).join(" to ")} ${units}`;
  return [
    scan.filter(Boolean).join(" · "),
    [frames, `${of.frames_missing || "none"} missing`, dark, degrees].filter(Boolean).join(" · "),
    [center, `filter ${of.filter}`, corrected(of.corrections), range.trim(), new Date().toISOString().slice(0, 19) + " UTC"].filter(Boolean).join(" · "),
  ];
}

/** The corrections in words; empty if there are none. */
function corrected({ zingers, rings, paganin, binning }) {
  const phase = paganin && `Paganin ${number(paganin.energy_kev)} keV, ${number(paganin.distance_m)} m, ratio ${number(paganin.delta_beta)}`;
  return [binning > 1 && `binning ${binning}`, zingers && "zingers", rings !== "none" && `rings ${rings}`, phase].filter(Boolean).join(", ");
}

/** Compose the pictures, three in a row; `levels` by group. Returns a canvas. */
export function compose(panels, levels, table) {
  const shown = panels.filter((panel) => panel.picture);
  const rows = [];
  for (let i = 0; i < shown.length; i += IN_A_ROW) rows.push(shown.slice(i, i + IN_A_ROW).map(tile));
  const widths = rows.map((row) => row.reduce((total, one) => total + one.width + GAP, GAP));
  const heights = rows.map((row) => LABEL + GAP + Math.max(...row.map((one) => one.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(900, ...widths);
  canvas.height = heights.reduce((total, height) => total + height, FOOT);
  const context = canvas.getContext("2d");
  context.fillStyle = "#0d0f12";
  context.fillRect(0, 0, canvas.width, canvas.height);
  let top = 0;
  rows.forEach((row, i) => {
    let left = GAP;
    for (const one of row) {
      drawTile(context, one, left, top + LABEL, levels, table);
      left += one.width + GAP;
    }
    top += heights[i];
  });
  context.font = "13px system-ui, sans-serif";
  context.fillStyle = "#c4ccd4";
  const { of, units } = shown[0].picture.known;
  provenance(of, levels, units).forEach((line, i) => context.fillText(line, GAP, top + 14 + 19 * i));
  return canvas;
}

/** How large a panel's picture is drawn: pixel by pixel if it can be. */
function tile(panel) {
  const [width, height] = panel.size;
  const scale = Math.min(1024 / Math.max(width, height), Math.max(1, Math.round(384 / Math.max(width, height))));
  const down = panel.stretched ? Math.min(scale, width / height) : scale;
  return { panel, scale, width: Math.round(width * scale), height: Math.round(height * down) };
}

function drawTile(context, { panel, scale, width, height }, left, top, levels, table) {
  const painted = paint(panel.picture, levels[groupOf(panel.plane)], table);
  context.imageSmoothingEnabled = width < painted.width;
  context.drawImage(painted, left, top, width, height);
  context.fillStyle = "#e8ebef";
  context.font = "600 14px system-ui, sans-serif";
  context.fillText(`${AXES[panel.plane].name}  ${placeOf(panel)}`, left, top - 9);
  if (!panel.stretched) drawBar(context, left + width - 10, top + height - 10, scale, width / scale, pixelSize(panel));
}

/** Where a panel's picture lies, in words. */
export function placeOf({ plane, picture, axes }) {
  const place = picture.key.split("@")[1]?.split(",");
  if (plane === "oblique") return place ? `tilt ${place[0]}°, turn ${place[1]}°, offset ${place[2]}` : "";
  if (plane === "sinogram") return `row ${picture.position}`;
  return `${axes.through ?? "frame"} ${picture.position}`;
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
