// The top line: which scan, how far, what is missing, how late. One sentence below it says what to make of that.

import { count, number, ranges, seconds } from "./units.js";
import { mark, write } from "./write.js";

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
/** So often the time since the last news is told; news tell it themselves. */
const TICK_MS = 1000;
const ANNOUNCE_MS = 5000;
const TITLE_MS = 3000;
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

const $ = (id) => document.getElementById(id);
const put = (id, text) => write($(id), { textContent: text });

export class TopLine {
  constructor() {
    this.status = null;
    this.heard = 0;
    this.history = [];
    this.run = "";
    this.announced = 0;
    /** What the gaps of the progress bar were drawn for. */
    this.missing = "";
    this.said = "";
    this.titled = -Infinity;
    this.linked = false;
    setInterval(() => performance.now() - this.heard > TICK_MS && this.tick(), TICK_MS);
  }

  update(status) {
    this.status = status;
    this.heard = performance.now();
    put("scan", status.run_uid ? [status.scan_id === null ? "Scan" : `Scan ${status.scan_id}`, status.sample].filter(Boolean).join(" · ") : "No scan yet");
    put("plan", [status.plan, status.run_uid.slice(0, 8)].filter(Boolean).join(" · "));
    write($("scan"), { title: status.run_uid });
    const [sign, name] = STATES[status.state] ?? ["?", status.state];
    mark($("state"), { "data-state": status.state });
    put("state-sign", sign);
    put("state-name", name);
    this.progress(status);
    this.coverage(status);
    const missing = count(status.missing);
    put("missing", missing ? `${missing}: ${ranges(status.missing, 2)}` : "none");
    write($("missing"), { title: missing ? `missing projections ${ranges(status.missing)}` : "" });
    $("missing").classList.toggle("bad", missing > 0);
    const calm = status.refining ? "The last projection is there; the rotation centre is being refined with all of them." : SENTENCES[status.state];
    this.say(status.message || calm || "", Boolean(status.message));
    this.tick();
  }

  progress(status) {
    const { frames_received: received, frames_announced: announced, frames_planned: planned, state } = status;
    const whole = planned ?? Math.max(announced, received);
    const words = state === "darks" ? `${status.darks} dark fields` : state === "flats" ? `${status.flats} flat fields` : "";
    put("progress-words", words || (whole ? `${received} of ${planned ?? `${announced} announced`} projections` : "no projections yet"));
    const bar = $("progress");
    const text = words || `${received} of ${whole} projections`;
    mark(bar, { "aria-valuemax": whole || 1, "aria-valuenow": received, "aria-valuetext": text });
    const percent = (value) => `${whole ? (100 * value) / whole : 0}%`;
    bar.querySelector(".announced").style.width = percent(announced);
    bar.querySelector(".received").style.width = percent(received);
    const missing = JSON.stringify([status.missing, whole]);
    if (missing === this.missing) return;
    this.missing = missing;
    bar.querySelector(".gaps").replaceChildren(
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
    mark($("arc"), { d: arcPath(share) });
    put("coverage", `${number(Math.floor(status.coverage), 4)}° of ${number(status.coverage_wanted, 4)}°`);
  }

  link(up, words) {
    this.linked = up;
    mark($("link"), { "data-up": up });
    put("link-words", words);
  }

  tick() {
    const status = this.status;
    if (!status) return;
    const elapsed = (performance.now() - this.heard) / 1000;
    const age = status.age_s === null ? null : status.age_s + elapsed;
    put("age", seconds(age));
    $("age").classList.toggle("bad", status.state === "projections" && age > 5);
    const final = status.state === "finished" && status.seconds_last_frame_to_final !== null;
    put("lag-name", final ? "Final after" : "Lag");
    put("lag", seconds(final ? status.seconds_last_frame_to_final : status.lag_s));
    $("lag").classList.toggle("bad", status.state === "projections" && status.lag_s > 5);
    put("left", seconds(this.timeLeft(status)));
    this.entitle(status);
  }

  /** The browser's own windows are drawn again for each title: percents are told now and then, all else at once. */
  entitle(status) {
    const words = this.title(status);
    const lasting = (title) => title.replace(/\d+ %/, "");
    const now = performance.now();
    if (words === document.title || (lasting(words) === lasting(document.title) && now - this.titled < TITLE_MS)) return;
    document.title = words;
    this.titled = now;
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
    if (words === this.said) return;
    this.said = words;
    $("message").classList.toggle("important", important);
    put("message", words);
    clearTimeout(this.announcing);
    const wait = Math.max(0, this.announced + ANNOUNCE_MS - performance.now());
    this.announcing = setTimeout(() => {
      if ($("announcer").textContent === words) return;
      put("announcer", words);
      this.announced = performance.now();
    }, wait);
  }
}
