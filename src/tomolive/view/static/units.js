// Numbers as people read them.

const MINUS = "\u2212";

/** About `digits` significant digits, without noise: 0.0123, 250.3, −4.5e-5. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
  return text.replace("-", MINUS).replace("e" + MINUS, "e-");
}

/** Seconds: 0.21 s, 12 s, 3:05, 2 h 10 min. */
export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)}:${String(Math.floor(value % 60)).padStart(2, "0")} min`;
  return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
}

/** The time of day of a Unix time: 14:03. */
export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

/** Half-open ranges as people write them: "17, 40–41". */
export function ranges(list, most = Infinity) {
  const words = list.slice(0, most).map(([first, last]) => (last - first === 1 ? `${first}` : `${first}–${last - 1}`));
  return words.join(", ") + (list.length > most ? ", …" : "");
}

/** How many frames half-open ranges hold. */
export const count = (list) => list.reduce((total, [first, last]) => total + last - first, 0);

/** The largest of 1, 2, 5 times a power of ten that is at most `limit`. */
export function niceBelow(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  return [5, 2, 1].find((step) => step * power <= limit * (1 + 1e-9)) * power;
}

/** A scale bar of at most `maxPixels` source pixels: {pixels, text}. */
export function scaleBar(maxPixels, pixelSizeUm) {
  if (!pixelSizeUm) {
    const pixels = Math.max(1, niceBelow(maxPixels));
    return { pixels, text: `${pixels} px` };
  }
  const length = niceBelow(maxPixels * pixelSizeUm);
  const text = length >= 1000 ? `${number(length / 1000)} mm` : length >= 1 ? `${number(length)} µm` : `${number(length * 1000)} nm`;
  return { pixels: length / pixelSizeUm, text };
}
