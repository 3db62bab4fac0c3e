// Joins the parts: what comes over the line is shown, what hands do goes into the view or over the line.

import { colors, NAMES } from "./colormaps.js";
import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { readHash, writeHash } from "./hash.js";
import { Levels } from "./levels.js";
import { Panel } from "./panel.js";
import { AXES, Positions } from "./planes.js";
import { Runs } from "./runs.js";
import { compose, save } from "./save.js";
import { honesty, TopLine } from "./topline.js";
import { Trends } from "./trends.js";

const $ = (id) => document.getElementById(id);
const view = readHash();
let status = null;
let frozen = false;
let held = null;
let table = colors("grey");
let saying = null;

const send = (message) => connection.send(message);
/** A wish is about the pictures that this person sees, even if another scan has begun. */
const wish = (message) => send({ ...message, run_uid: subject()?.run_uid ?? "" });
const positions = new Positions(wish, () => {
  marksChanged();
  remember();
});
const top = new TopLine();
const trends = new Trends($("trend"));
const runs = new Runs($("runs"), $("finished"));
const controls = new Controls($("controls"), wish);
const levels = new Levels($("levels"), (group) => {
  for (const panel of panels) if (Levels.groupOf(panel.plane) === group) recolor(panel);
  remember();
});

const room = {
  positions,
  status: () => status,
  subject: () => subject(),
  control: () => controls.allowed,
  color: (plane) => getComputedStyle(document.documentElement).getPropertyValue(`--${plane}`).trim(),
  cursor: (words) => ($("cursor").textContent = words),
  viewed: () => viewChanged(),
  enlarge: (plane) => enlarge(plane),
  setCenter: (column) => controls.setCenter(column),
  nudgeCenter: (by) => controls.nudgeCenter(by),
};
const panels = Object.keys(AXES).map(makePanel);

function makePanel(plane) {
  const { name, hint, through } = AXES[plane];
  const figure = $("panel").content.firstElementChild.cloneNode(true);
  figure.dataset.plane = plane;
  figure.querySelector("h2").textContent = name;
  figure.querySelector(".hint").textContent = hint;
  const box = figure.querySelector("input");
  figure.querySelector(".axis").textContent = through ?? "frame";
  box.setAttribute("aria-label", through ? `Position of the ${name} slice along ${through}` : "Number of the projection shown");
  box.readOnly = !through;
  const words = through
    ? `${name} slice. Arrow keys move the cross-hair, comma and full stop the slice, plus and minus zoom.`
    : "Projection with the rotation axis. Left and right move the axis by 0.1 pixels, up and down choose the row.";
  figure.querySelector(".well").setAttribute("aria-label", words);
  for (const button of figure.querySelectorAll("button")) button.setAttribute("aria-label", `${button.title}: ${name}`);
  $("pictures").append(figure);
  return new Panel(figure, plane, room);
}

// ---- what comes over the line

const connection = new Connection(
  { hello, state, pictures, refused, link: (up, words) => top.link(up, words) },
  { name: localStorage.getItem("tomolive-name") ?? "", token: takeToken() },
);

/** The token comes in the address once, and is kept out of it from then on. */
function takeToken() {
  const query = new URLSearchParams(location.search);
  const token = query.get("token");
  if (token) {
    sessionStorage.setItem("tomolive-token", token);
    history.replaceState(null, "", location.pathname + location.hash);
  }
  return sessionStorage.getItem("tomolive-token") ?? "";
}

function hello(message) {
  controls.hello(message);
  if (message.source) $("source").textContent = message.source;
}

function state(message) {
  const another = status && status.run_uid !== message.run_uid;
  status = message;
  document.body.dataset.empty = String(!Object.keys(status.pictures).length);
  $("empty-title").textContent = status.run_uid ? "The first pictures are on their way." : "No scan yet.";
  $("teach").hidden = Boolean(status.run_uid);
  top.update(status);
  tellControls();
  runs.update(status);
  trends.update(status);
  positions.update(status.pictures);
  shape();
  for (const panel of panels) {
    if (panel.picture && !(panel.plane in status.pictures)) panel.clear();
    caption(panel);
  }
  if (another) remember();
  marksChanged();
}

/** What the settings are about: the newest pictures; those on the screen if they are of another scan, or none came. */
function subject() {
  const drawn = panels.find((panel) => panel.picture)?.picture.known.of;
  const newest = status?.pictures.xy?.of;
  return drawn && drawn.run_uid !== newest?.run_uid ? drawn : newest ?? status;
}

function tellControls() {
  const { projection, xy } = status.pictures;
  controls.update(subject(), projection?.columns ?? xy?.columns);
}

function pictures(list) {
  if (frozen) {
    held = { ...held, ...Object.fromEntries(list.map((picture) => [picture.plane, picture])) };
    return;
  }
  for (const picture of list) {
    const depth = { xz: positions.size.y, yz: positions.size.x }[picture.plane];
    levels.groups[Levels.groupOf(picture.plane)].take(picture, depth, picture.known.units);
  }
  const groups = new Set(list.map((picture) => Levels.groupOf(picture.plane)));
  for (const name of groups) levels.groups[name].settle();
  const fresh = Object.fromEntries(list.map((picture) => [picture.plane, picture]));
  for (const panel of panels) {
    if (fresh[panel.plane]) panel.draw(fresh[panel.plane], levels.range(panel.plane), table);
    else if (groups.has(Levels.groupOf(panel.plane))) recolor(panel);
    caption(panel);
  }
  levels.draw();
  tellControls();
  marksChanged();
  const detail = { planes: Object.keys(fresh), updated: status.updated, lag_s: status.lag_s, center: list[0].known.of.center };
  document.dispatchEvent(new CustomEvent("tomolive:drawn", { detail }));
}

function refused(reason) {
  controls.refused();
  const line = $("refused");
  line.textContent = reason;
  line.hidden = false;
  clearTimeout(saying);
  saying = setTimeout(() => (line.hidden = true), 8000);
}

// ---- what is shown

const recolor = (panel) => panel.recolor(levels.range(panel.plane), table);

function marksChanged() {
  for (const panel of panels) {
    panel.mark();
    const { through } = panel.axes;
    const box = panel.box;
    if (document.activeElement !== box || box.readOnly) {
      const value = through ? positions.at[through] : panel.picture?.position;
      box.value = value === undefined ? "" : String(value);
    }
    if (through) box.max = String(Math.max(0, positions.size[through] - 1));
    panel.figure.querySelector(".of").textContent = through && positions.size[through] ? `of ${positions.size[through]}` : "";
  }
}

function caption(panel) {
  const { name, through } = panel.axes;
  const known = panel.picture?.known;
  const badge = panel.figure.querySelector(".badge");
  const [kind, words] = known ? honesty(known.of, status) : ["", ""];
  badge.querySelector(".kind").textContent = kind;
  badge.querySelector(".more").textContent = words && `: ${words}`;
  badge.hidden = !kind || (kind === "partial" && !through);
  if (!known) return panel.canvas.setAttribute("aria-label", `${name}: no picture yet`);
  const place = through ? `${through} ${panel.picture.position}` : `frame ${panel.picture.position}`;
  const label = `${name} at ${place}, ${known.columns} by ${known.rows} pixels${kind ? `, ${kind} ${words}` : ""}`.trim();
  if (panel.canvas.getAttribute("aria-label") !== label) panel.canvas.setAttribute("aria-label", label);
}

/** The small pictures' shape decides how wide their column is. */
function shape() {
  const wide = status.pictures.projection ?? status.pictures.xz;
  if (wide) $("pictures").style.setProperty("--aspect", String(Math.min(2.4, Math.max(1, wide.columns / wide.rows))));
}

function enlarge(plane) {
  view.big = plane === view.big ? "xy" : plane;
  layout();
  remember();
}

function layout() {
  if (!(view.big in AXES)) view.big = "xy";
  for (const panel of panels) {
    const big = panel.plane === view.big;
    panel.figure.classList.toggle("big", big);
    panel.figure.querySelector("[data-act=big]").setAttribute("aria-pressed", String(big));
  }
}

let viewTimer = null;
function viewChanged() {
  for (const panel of panels) {
    const zoomed = panel.view.zoom > 1.001;
    panel.figure.querySelector(".zoom").textContent = zoomed ? `${panel.view.zoom.toFixed(1)}×` : "";
    panel.figure.querySelector("[data-act=fit]").disabled = !zoomed;
  }
  clearTimeout(viewTimer);
  viewTimer = setTimeout(() => {
    send({ type: "view", pixels: Object.fromEntries(panels.map((panel) => [panel.plane, panel.wanted])) });
    remember();
  }, 150);
}

function remember() {
  for (const panel of panels) view.zoom[panel.plane] = panel.view;
  for (const [name, group] of Object.entries(levels.groups)) view.levels[name] = group.locked;
  writeHash(view);
}

// ---- this person's view

function chooseColors() {
  view.colors = $("colors").value;
  view.inverted = $("inverted").checked;
  levels.table = table = colors(view.colors, view.inverted);
  for (const panel of panels) recolor(panel);
  levels.draw();
  remember();
}

function freeze() {
  frozen = !frozen;
  $("freeze").setAttribute("aria-pressed", String(frozen));
  $("freeze-name").textContent = frozen ? "Frozen: go on" : "Freeze";
  document.body.dataset.frozen = String(frozen);
  if (!frozen && held) {
    const list = Object.values(held);
    held = null;
    pictures(list);
  }
}

function start() {
  $("colors").replaceChildren(...NAMES.map((name) => new Option(name, name)));
  if (NAMES.includes(view.colors)) $("colors").value = view.colors;
  $("inverted").checked = view.inverted;
  for (const name of ["slices", "projection"]) levels.lock(name, view.levels[name]);
  for (const panel of panels) if (view.zoom[panel.plane]) panel.view = view.zoom[panel.plane];
  $("colors").addEventListener("change", chooseColors);
  $("inverted").addEventListener("change", chooseColors);
  $("freeze").addEventListener("click", freeze);
  $("save").addEventListener("click", () => {
    const shown = panels.find((panel) => panel.picture);
    if (!shown) return refused("there is no picture to save yet");
    const ranges = { slices: levels.range("xy"), projection: levels.range("projection") };
    save(compose(panels, ranges, table), shown.picture.known.of);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "f") freeze();
  });
  $("name").value = connection.name;
  $("name").addEventListener("change", () => {
    const name = $("name").value.replace(/[<>]/g, "").trim();
    localStorage.setItem("tomolive-name", name);
    connection.introduce(name);
  });
  layout();
  chooseColors();
  viewChanged();
}

start();
