// Joins the parts: what comes over the line is shown, what hands do goes into the view or over the line.

import { CameraChoice } from "./camera.js";
import { Candidates } from "./candidates.js";
import { colors, NAMES } from "./colormaps.js";
import { Connection } from "./connection.js";
import { CenterControl } from "./controls.js";
import { Corrections } from "./corrections.js";
import { readHash, writeHash } from "./hash.js";
import { Levels } from "./levels.js";
import { Panels } from "./panels.js";
import { groupOf, Places } from "./planes.js";
import { pythonFor, Runs } from "./runs.js";
import { compose, save } from "./save.js";
import { Shared } from "./shared.js";
import { TopLine } from "./topline.js";
import { Trends } from "./trends.js";
import { Volume } from "./volume.js";
import { mark, write } from "./write.js";

const LOOK_EVERY_MS = 50;

const $ = (id) => document.getElementById(id);
const view = readHash();
let status = null;
let frozen = false;
let held = null;
let table = colors("grey");
let saying = null;
let palette = {};

const send = (message) => connection.send(message);
/** A wish is about the pictures that this person sees, even if another scan has begun. */
const wish = (message) => send({ run_uid: subject()?.run_uid ?? "", ...message });
const places = new Places(() => {
  panels.mark();
  look();
});
Object.assign(places, { own: view.own, oblique: view.oblique });
const top = new TopLine();
const trends = new Trends($("numbers"));
const runs = new Runs($("runs"), $("finished"));
const shared = new Shared($("controls"));
const center = new CenterControl($("controls"), shared, wish);
const corrections = new Corrections($("controls"), shared, wish);
const camera = new CameraChoice($("camera-row"), shared, wish);
const volume = new Volume($("volume"), shared, wish);
const candidates = new Candidates($("candidates"), $("candidates-open"), {
  send: wish,
  shared,
  changed: () => look(),
  choose: (column) => center.setCenter(column),
});
const levels = new Levels($("levels"), (group) => {
  recolor((plane) => groupOf(plane) === group);
  look();
});
const panels = new Panels($("pictures"), $("panel"), $("place"), view, {
  places,
  status: () => status,
  subject: () => subject(),
  control: () => shared.allowed,
  color: (name) => (palette[name] ??= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()),
  cursor: (words) => ($("cursor").textContent = words),
  viewed: () => look(),
  setCenter: (column) => center.setCenter(column),
  nudgeCenter: (by) => center.nudgeCenter(by),
});

// ---- what comes over the line

const connection = new Connection(
  { hello, state, pictures, refused, trends: (list) => trends.update(list), link: (up, words) => top.link(up, words) },
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
  shared.hello(message);
  corrections.hello(message);
  if (message.source) $("source").textContent = message.source;
  viewSent = "";
  look();
}

function state(message) {
  status = message;
  top.update(status);
  shared.update(status);
  volume.update(status);
  camera.update(status);
  runs.update(status);
  trends.state(status);
  if (places.update(status)) look();
  showEmptiness();
  panels.update();
  candidates.update(status, subject().center);
  tellControls();
}

function showEmptiness() {
  mark(document.body, { "data-empty": !panels.some && !Object.keys(status.pictures).length });
  write($("empty-title"), { textContent: status.run_uid ? "The first pictures are on their way." : "No scan yet." });
  write($("teach"), { hidden: Boolean(status.run_uid) });
}

/** What the settings are about: the newest pictures; those on the screen if they are of another scan, or none came. */
function subject() {
  const drawn = panels.some?.picture.known.of;
  const newest = Object.values(status?.pictures ?? {})[0]?.of;
  return drawn && drawn.run_uid !== newest?.run_uid ? drawn : newest ?? status;
}

function tellControls() {
  const about = subject();
  center.update(about, places.size.x * (about.corrections?.binning ?? 1));
  corrections.update(about);
}

function pictures(list) {
  if (frozen) {
    held = { ...held, ...Object.fromEntries(list.map((picture) => [picture.plane, picture])) };
    return;
  }
  for (const picture of list) {
    if (picture.plane !== "candidates") levels.take(picture, places.size.x);
  }
  const groups = new Set(list.map((picture) => groupOf(picture.plane)));
  for (const name of groups) levels.groups[name].settle();
  const fresh = Object.fromEntries(list.map((picture) => [picture.plane, picture]));
  panels.draw(fresh, (plane) => levels.range(plane), table);
  if (fresh.candidates) candidates.take(fresh.candidates, levels.range("xy"), table);
  recolor((plane) => groups.has(groupOf(plane)) && !fresh[plane]);
  showEmptiness();
  levels.drawSoon();
  tellControls();
  const { updated, lag_s } = status;
  const detail = { planes: Object.keys(fresh), keys: list.map((picture) => picture.key), updated, lag_s, center: list[0].known.of.center };
  document.dispatchEvent(new CustomEvent("tomolive:drawn", { detail }));
}

function refused(reason) {
  shared.refused();
  center.refused();
  const line = $("refused");
  line.textContent = reason;
  line.hidden = false;
  clearTimeout(saying);
  saying = setTimeout(() => (line.hidden = true), 8000);
}

// ---- what is shown

/** @param {(plane: string) => boolean} which */
function recolor(which = () => true) {
  panels.recolor(which, (plane) => levels.range(plane), table);
  if (which("candidates")) candidates.recolor(levels.range("xy"), table);
}

let viewTimer = null;
let viewSent = "";
let viewAt = -Infinity;

/** Tell the server what is looked at, soon but not too often, and keep it in the address. */
function look() {
  if (viewTimer !== null) return;
  viewTimer = setTimeout(() => {
    viewTimer = null;
    viewAt = performance.now();
    const wanted = document.hidden ? {} : panels.wanted();
    if (candidates.open && !document.hidden) wanted.candidates = candidates.wanted;
    const text = JSON.stringify(wanted);
    if (text !== viewSent && send({ type: "view", pictures: wanted })) viewSent = text;
    remember();
  }, Math.max(0, viewAt + LOOK_EVERY_MS - performance.now()));
}

function remember() {
  Object.assign(view, { own: places.own, oblique: places.oblique, zoom: panels.zooms(), big: panels.big });
  for (const [name, group] of Object.entries(levels.groups)) view.levels[name] = group.locked;
  writeHash(view);
  for (const link of document.querySelectorAll("[data-tiff]")) link.href = `api/slices/${fileOf(link.dataset.tiff)}`;
}

/** The slice that is looked at, as the API names it. */
function fileOf(plane) {
  const [, place] = places.key(plane).split("@");
  return `${plane}.tif${place ? `?position=${place}` : ""}`;
}

// ---- this person's view

function chooseColors() {
  view.colors = $("colors").value;
  view.inverted = $("inverted").checked;
  levels.table = table = colors(view.colors, view.inverted);
  recolor();
  levels.draw();
  look();
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

function savePicture() {
  if (!panels.some) return refused("there is no picture to save yet");
  const ranges = Object.fromEntries(Object.entries(levels.groups).map(([name, group]) => [name, group.range]));
  save(compose(panels.list, ranges, table), panels.some.picture.known.of);
}

async function copyPython() {
  const button = $("python");
  const plane = panels.big in { xz: 1, yz: 1 } ? panels.big : "xy";
  const code = pythonFor(plane, new URL(`api/slices/${fileOf(plane)}`, location.href));
  const words = button.textContent;
  // Without HTTPS only a page of this machine may use the clipboard.
  button.textContent = await navigator.clipboard.writeText(code).then(() => "Copied", () => "Not allowed here");
  setTimeout(() => (button.textContent = words), 2000);
}

function start() {
  $("colors").replaceChildren(...NAMES.map((name) => new Option(name, name)));
  if (NAMES.includes(view.colors)) $("colors").value = view.colors;
  $("inverted").checked = view.inverted;
  for (const name of Object.keys(levels.groups)) levels.lock(name, view.levels[name]);
  $("colors").addEventListener("change", chooseColors);
  $("inverted").addEventListener("change", chooseColors);
  $("freeze").addEventListener("click", freeze);
  $("save").addEventListener("click", savePicture);
  $("python").addEventListener("click", copyPython);
  document.addEventListener("visibilitychange", look);
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => {
    palette = {};
    panels.mark();
  });
  document.addEventListener("keydown", (event) => {
    if (/** @type {Element} */ (event.target).matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "f") freeze();
  });
  $("name").value = connection.name;
  $("name").addEventListener("change", () => {
    const name = $("name").value.replace(/[<>]/g, "").trim();
    localStorage.setItem("tomolive-name", name);
    connection.introduce(name);
  });
  chooseColors();
}

start();
