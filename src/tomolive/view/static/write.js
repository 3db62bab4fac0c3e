// Writing what stands there already has the browser style, lay out and paint again: only what is new is written.

/** Set properties of a node: `write(line, { textContent: "12 of 90", hidden: false })`. */
export function write(/** @type {any} */ node, /** @type {Record<string, unknown>} */ properties) {
  for (const [name, value] of Object.entries(properties)) if (node[name] !== value) node[name] = value;
}

/** Set attributes of an element. */
export function mark(/** @type {Element} */ element, /** @type {Record<string, unknown>} */ attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
  }
}
