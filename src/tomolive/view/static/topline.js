// The top line: which scan, how far, what is missing, how late. One sentence below it says what to make of that.

import { count, number, ranges, seconds } from "./units.js";

const STATES = {
  waiting: ["○", "Waiting"],
  darks: ["◐", "Dark fields"],
  flats: ["◑", "Flat fields"],
  projections: ["●", "Scanning"],
  unreadable: ["!", "Images not readable yet"],
  finished: ["✓", "Finished"],
  failed: ["✕", "Failed"],
};
const SENTENCES = {
  waiting: "Waiting for the next scan.",
  darks: "Dark fields are taken: the camera without beam.",
  flats: "Flat fields are taken: the beam without sample.",
  projections: "The slices get better with every projection, until the scan ends.",
  unreadable: "The images are announced, but their file cannot be read yet. The work starts as soon as it opens.",
  finished: "The scan is complete, and so are the slices.",
  failed: "The scan failed. The slices show what had arrived until then.",
};
const ANNOUNCE_MS = 5000;
const RATE_WINDOW_S = 8;

const ARC = { radius: 15, x: 18, y: 17 };

/** An SVG path that fills `share` of a half circle, from left to right. */
export function arcPath(share) {
  const angle = Math.PI * (1 - Math.min(1, Math.max(0, share)));
  const [x, y] = [ARC.x + ARC.radius * Math.cos(angle), ARC.y - ARC.radius * Math.sin(angle)];
  return `M${ARC.x},${ARC.y} L${ARC.x - ARC.radius},${ARC.y} A${ARC.radius},${ARC.radius} 0 0 1 ${x.toFixed(2)},${y.toFixed(2)} Z`;
}

/** What a picture is not: ["previous scan", "12"], ["partial", "94 of 180 degrees"], or ["", ""] if it is whole. */
export function honesty(of, status) {
  const current = of.run_uid === status.run_uid;
  const ended = current && status.state === "finished" && of.frames_received === status.frames_received;
  const whole = ended || of.frames_received >= (of.frames_planned ?? Infinity);
  const degrees = (value) => number(Math.floor(value), 4);
  const turned = of.coverage > 0.98 * of.coverage_wanted;
  const frames = whole ? "" : `${of.frames_received} of ${of.frames_planned ?? "?"} projections`;
  const part = turned ? frames : `${degrees(of.coverage)} of ${degrees(of.coverage_wanted)} degrees`;
  if (current) return [part && "partial", part];
  return ["previous scan", [of.scan_id ?? of.run_uid.slice(0, 8), part].filter(Boolean).join(", ")];
}

export class TopLine {
  constructor() {
    this.status = null;
    this.heard = 0;
    this.history = [];
    this.run = "";
    this.announced = 0;
    this.linked = false;
    setInterval(() => this.tick(), 250);
  }

  put(id, text) {
    const element = document.getElementById(id);
    if (element.textContent !== text) element.textContent = text;
  }

  update(status) {
    this.status = status;
    this.heard = performance.now();
    this.put("scan", status.run_uid ? [status.scan_id === null ? "Scan" : `Scan ${status.scan_id}`, status.sample].filter(Boolean).join(" · ") : "No scan yet");
    this.put("plan", [status.plan, status.run_uid.slice(0, 8)].filter(Boolean).join(" · "));
    document.getElementById("scan").title = status.run_uid;
    const [sign, name] = STATES[status.state] ?? ["?", status.state];
    const state = document.getElementById("state");
    state.dataset.state = status.state;
    this.put("state-sign", sign);
    this.put("state-name", name);
    this.progress(status);
    this.coverage(status);
    const missing = count(status.missing);
    this.put("missing", missing ? `${missing}: ${ranges(status.missing, 2)}` : "none");
    document.getElementById("missing").title = missing ? `missing projections ${ranges(status.missing)}` : "";
    document.getElementById("missing").classList.toggle("bad", missing > 0);
    const calm = status.refining ? "The last projection is there; the rotation centre is being refined with all of them." : SENTENCES[status.state];
    this.say(status.message || calm || "", Boolean(status.message));
    this.tick();
  }

  progress(status) {
    const { frames_received: received, frames_announced: announced, frames_planned: planned, state } = status;
    const whole = planned ?? Math.max(announced, received);
    const words = state === "darks" ? `${status.darks} dark fields` : state === "flats" ? `${status.flats} flat fields` : "";
    this.put("progress-words", words || (whole ? `${received} of ${planned ?? `${announced} announced`} projections` : "no projections yet"));
    const bar = document.getElementById("progress");
    bar.setAttribute("aria-valuemax", String(whole || 1));
    bar.setAttribute("aria-valuenow", String(received));
    bar.setAttribute("aria-valuetext", words || `${received} of ${whole} projections`);
    const percent = (value) => `${whole ? (100 * value) / whole : 0}%`;
    bar.querySelector(".announced").style.width = percent(announced);
    bar.querySelector(".received").style.width = percent(received);
    const gaps = bar.querySelector(".gaps");
    gaps.replaceChildren(
      ...status.missing.slice(0, 200).map(([first, last]) => {
        const gap = document.createElement("span");
        gap.style.left = percent(first);
        gap.style.width = percent(last - first);
        return gap;
      }),
    );
  }

  coverage(status) {
    const share = status.coverage_wanted ? status.coverage / status.coverage_wanted : 0;
    document.getElementById("arc").setAttribute("d", arcPath(share));
    this.put("coverage", `${number(Math.floor(status.coverage), 4)}° of ${number(status.coverage_wanted, 4)}°`);
  }

  link(up, words) {
    this.linked = up;
    document.getElementById("link").dataset.up = String(up);
    this.put("link-words", words);
  }

  tick() {
    const status = this.status;
    if (!status) return;
    const elapsed = (performance.now() - this.heard) / 1000;
    const age = status.age_s === null ? null : status.age_s + elapsed;
    this.put("age", seconds(age));
    document.getElementById("age").classList.toggle("bad", status.state === "projections" && age > 5);
    const final = status.state === "finished" && status.seconds_last_frame_to_final !== null;
    this.put("lag-name", final ? "Final after" : "Lag");
    this.put("lag", seconds(final ? status.seconds_last_frame_to_final : status.lag_s));
    document.getElementById("lag").classList.toggle("bad", status.state === "projections" && status.lag_s > 5);
    this.put("left", seconds(this.timeLeft(status)));
    document.title = this.title(status);
  }

  /** What a tab that is not looked at should tell: the state first, then how far, then which scan. */
  title(status) {
    if (!this.linked) return "Not connected · tomolive";
    if (!status.run_uid) return "Waiting · tomolive";
    const [sign, name] = STATES[status.state] ?? ["?", status.state];
    const scanning = status.state === "projections" && status.frames_planned;
    const percent = scanning ? ` ${Math.floor((100 * status.frames_received) / status.frames_planned)} %` : "";
    const scan = status.scan_id === null ? status.run_uid.slice(0, 8) : `scan ${status.scan_id}`;
    return `${status.message ? "▲" : sign} ${name}${percent} · ${scan} · tomolive`;
  }

  /** Seconds until the planned end at the pace of the last few seconds; null while nobody can know. */
  timeLeft(status) {
    if (status.run_uid !== this.run) [this.run, this.history] = [status.run_uid, []];
    if (status.state !== "projections" || !status.frames_planned) return null;
    const now = performance.now() / 1000;
    const last = this.history.at(-1);
    if (!last || last[1] !== status.frames_announced) this.history.push([now, status.frames_announced]);
    while (this.history.length > 2 && now - this.history[0][0] > RATE_WINDOW_S) this.history.shift();
    const [time, frames] = this.history[0];
    const todo = status.frames_planned - status.frames_announced;
    if (now - time < 0.5 || status.frames_announced <= frames || todo <= 0) return null;
    return (todo * (now - time)) / (status.frames_announced - frames);
  }

  /** Show a sentence; read it out at most every few seconds, so that a screen reader is not flooded. */
  say(words, important = false) {
    const line = document.getElementById("message");
    line.classList.toggle("important", important);
    this.put("message", words);
    clearTimeout(this.announcing);
    const wait = Math.max(0, this.announced + ANNOUNCE_MS - performance.now());
    this.announcing = setTimeout(() => {
      const live = document.getElementById("announcer");
      if (live.textContent === words) return;
      live.textContent = words;
      this.announced = performance.now();
    }, wait);
  }
}
