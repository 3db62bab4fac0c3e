// The binary message: see tomolive/view/protocol.py, which describes every byte.

/**
 * @typedef {object} Known What the state says of a picture.
 * @property {string} plane
 * @property {number} version
 * @property {number} position
 * @property {string} units
 * @property {number} rows
 * @property {number} columns
 * @property {Record<string, any>} of The scan that it is of.
 *
 * @typedef {object} Picture
 * @property {string} plane
 * @property {number} binning
 * @property {number} version
 * @property {number} snapshot
 * @property {number} rows
 * @property {number} columns
 * @property {number} position
 * @property {number} scale
 * @property {number} offset
 * @property {Uint16Array} pixels
 * @property {string} key Its name in the state.
 * @property {Known} known
 */

const HEADER = 48;
const PLANES = ["xy", "xz", "yz", "projection", "oblique", "sinogram", "candidates"];
export const NOT_FINITE = 65535;

/**
 * @param {ArrayBuffer} buffer
 * @param {string} key
 * @param {Known} known
 * @returns {Picture}
 */
export function decodePicture(buffer, key, known) {
  const head = new DataView(buffer);
  if (buffer.byteLength < HEADER || head.getUint32(0) !== 0x544d4c56 || head.getUint8(4) !== 1) {
    throw new Error("not a picture of this protocol; reload the page");
  }
  const rows = head.getUint32(16, true);
  const columns = head.getUint32(20, true);
  if (buffer.byteLength !== HEADER + 2 * rows * columns) throw new Error("a picture with missing pixels");
  return {
    plane: PLANES[head.getUint8(5)],
    binning: head.getUint16(6, true),
    version: head.getUint32(8, true),
    snapshot: head.getUint32(12, true),
    rows,
    columns,
    position: head.getFloat64(24, true),
    scale: head.getFloat64(32, true),
    offset: head.getFloat64(40, true),
    pixels: new Uint16Array(buffer, HEADER),
    key,
    known,
  };
}

/** The value of one sent pixel; NaN where it is not finite. */
export function valueAt(/** @type {Picture} */ picture, /** @type {number} */ row, /** @type {number} */ column) {
  const q = picture.pixels[row * picture.columns + column];
  return q === NOT_FINITE ? NaN : picture.offset + picture.scale * q;
}
