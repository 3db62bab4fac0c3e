// Pixels to canvas. The only place that knows how a value becomes a colour.

import { NOT_FINITE } from "./protocol.js";

const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const pack = (r, g, b) => (littleEndian ? (255 << 24) | (b << 16) | (g << 8) | r : (r << 24) | (g << 16) | (b << 8) | 255) >>> 0;
const NOT_A_NUMBER = pack(150, 60, 60);

const colors = new Uint32Array(65536);
/** The memory that each canvas is painted from: a megabyte for each picture would keep the browser busy with clearing up. */
const images = new WeakMap();

/** One colour for each of the 65536 values that a pixel can have; good until the next call. */
function lookup(picture, [low, high], table, notFinite = NOT_A_NUMBER) {
  const gain = high > low ? 255 / (high - low) : 0;
  const packed = Uint32Array.from({ length: 256 }, (_, i) => pack(table[3 * i], table[3 * i + 1], table[3 * i + 2]));
  const start = (picture.offset - low) * gain;
  const step = picture.scale * gain;
  if (step > 0) {
    // Each colour has a run of neighbouring values: a few hundred runs are filled sooner than 65536 values are computed.
    const begin = (level) => Math.min(NOT_FINITE, Math.max(0, Math.ceil((level - 0.5 - start) / step)));
    for (let level = 0, from = 0; level < 256; level++) {
      const to = level < 255 ? begin(level + 1) : NOT_FINITE;
      if (to > from) colors.fill(packed[level], from, to);
      from = to;
    }
  } else colors.fill(packed[Math.round(Math.min(255, Math.max(0, start)))]);
  colors[NOT_FINITE] = notFinite;
}

/** Paint `picture` at its own size on an off-screen canvas, which is returned (and used again if it fits). */
export function paint(picture, levels, table, canvas = document.createElement("canvas")) {
  if (canvas.width !== picture.columns || canvas.height !== picture.rows) {
    canvas.width = picture.columns;
    canvas.height = picture.rows;
    images.delete(canvas);
  }
  // Lines of a sinogram that are still to come are no mistake: nothing is there.
  lookup(picture, levels, table, picture.plane === "sinogram" ? 0 : undefined);
  const context = canvas.getContext("2d");
  const image = images.get(canvas) ?? context.createImageData(picture.columns, picture.rows);
  images.set(canvas, image);
  const target = new Uint32Array(image.data.buffer);
  const pixels = picture.pixels;
  for (let i = 0; i < target.length; i++) target[i] = colors[pixels[i]];
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * Where a picture of `width` x `height` source pixels lies on a canvas: {scale, down, left, top}, in device pixels.
 * Pixels are square, `scale` a side; with `stretched` (a sinogram: degrees have no length) they are `down` high.
 */
export function place(canvas, width, height, view, stretched = false) {
  const fit = [canvas.width / width, canvas.height / height];
  const [scale, down] = (stretched ? fit : fit.fill(Math.min(...fit))).map((one) => one * view.zoom);
  const side = (size, room, centre) => {
    if (size <= room) return (room - size) / 2;
    return Math.min(0, Math.max(room - size, room / 2 - centre * size));
  };
  return { scale, down, left: side(width * scale, canvas.width, view.x), top: side(height * down, canvas.height, view.y) };
}

/** Show a painted picture: real pixels when magnified, averaged when reduced. */
export function show(canvas, painted, width, height, view, stretched = false) {
  const { scale, down, left, top } = place(canvas, width, height, view, stretched);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = Math.min(scale, down) * (width / painted.width) < 1;
  context.imageSmoothingQuality = "low";
  context.drawImage(painted, left, top, width * scale, height * down);
}
