// What belongs to one person's view stands in the address: reload it, bookmark it, send it to a colleague. The planes
// do not: they are everybody's, and only hands move them.

const pair = (text) => {
  const values = (text ?? "").split(",").map(Number);
  return values.length === 2 && values.every(Number.isFinite) && values[0] < values[1] ? values : null;
};

export function readHash(text = location.hash) {
  const query = new URLSearchParams(text.replace(/^#/, ""));
  const view = { levels: {}, zoom: {} };
  view.colors = query.get("colors");
  view.inverted = query.get("inverted") === "1";
  view.big = query.get("big");
  view.levels.slices = pair(query.get("levels"));
  view.levels.projection = pair(query.get("projection"));
  for (const plane of ["xy", "xz", "yz", "projection"]) {
    const values = (query.get(`zoom-${plane}`) ?? "").split(",").map(Number);
    if (values.length === 3 && values.every(Number.isFinite)) {
      view.zoom[plane] = { zoom: Math.min(64, Math.max(1, values[0])), x: values[1], y: values[2] };
    }
  }
  return view;
}

export function writeHash(view) {
  const parts = [];
  const short = (value) => String(Number(value.toPrecision(6)));
  if (view.colors && view.colors !== "grey") parts.push(`colors=${view.colors}`);
  if (view.inverted) parts.push("inverted=1");
  if (view.big && view.big !== "xy") parts.push(`big=${view.big}`);
  if (view.levels.slices) parts.push(`levels=${view.levels.slices.map(short)}`);
  if (view.levels.projection) parts.push(`projection=${view.levels.projection.map(short)}`);
  for (const [plane, { zoom, x, y }] of Object.entries(view.zoom)) {
    if (zoom > 1) parts.push(`zoom-${plane}=${short(zoom)},${x.toFixed(4)},${y.toFixed(4)}`);
  }
  const wanted = parts.length ? "#" + parts.join("&") : "";
  if (wanted !== location.hash) history.replaceState(null, "", location.pathname + location.search + wanted);
}
