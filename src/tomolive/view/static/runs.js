// The scan that runs and those that are over, of this process and of the catalog: a list, and the picture that each left.

import { number, ranges, seconds } from "./units.js";
import { mark } from "./write.js";

const name = (run) => [run.scan_id === null ? run.run_uid.slice(0, 8) : `Scan ${run.scan_id}`, run.sample].filter(Boolean).join(" · ");

/** Python that opens a slice of this page. */
export const pythonFor = (plane, url) => `import io, urllib.request, tifffile\n\nurl = "${url}"\n${plane} = tifffile.imread(io.BytesIO(urllib.request.urlopen(url).read()))`;

const baseOf = (run) => `api/runs/${encodeURIComponent(run.folder)}`;

const ACROSS = { z: "xy", y: "xz", x: "yz" };

/** The volume of a scan in the catalog: where it is, and any slice of it. */
class VolumeSlices {
  /**
   * back(run) shows the other pictures of a run again, located(run, path) tells where its volume is, and
   * shown(plane, path) which slice is looked at.
   */
  constructor(row, picture, { back, located, shown }) {
    this.row = row;
    this.picture = picture;
    this.back = back;
    this.shown = shown;
    this.located = located;
    this.run = null;
    this.box = row.querySelector("[type=checkbox]");
    this.axis = row.querySelector("select");
    this.range = row.querySelector("[type=range]");
    this.output = row.querySelector("output");
    this.link = row.querySelector("a");
    this.box.addEventListener("change", () => (this.box.checked ? this.show() : this.back(this.run)));
    this.range.addEventListener("input", () => (this.output.textContent = this.range.value));
    this.axis.addEventListener("change", () => {
      this.begin();
      this.box.checked = true;
      this.show();
    });
    this.range.addEventListener("change", () => {
      this.box.checked = true;
      this.show();
    });
  }

  async choose(run) {
    this.run = run;
    this.row.hidden = !run.volume;
    if (!run.volume) return;
    this.box.checked = !run.picture;
    this.begin();
    this.link.href = this.address("tif");
    if (this.box.checked) this.show();
    const reply = await fetch(`${baseOf(run)}/volume.json`).catch(() => null);
    if (!reply?.ok || this.run !== run) return;
    const { uri } = await reply.json();
    // Nothing in it is escaped: what looks so stands in the names of files.
    this.located(run, uri.replace(/^file:\/\/(localhost)?/, ""));
  }

  /** Begin in the middle. */
  begin() {
    const length = this.run.volume["zyx".indexOf(this.axis.value)];
    this.range.max = String(length - 1);
    this.range.value = String(Math.floor(length / 2));
    this.output.textContent = this.range.value;
  }

  address(form) {
    return `${baseOf(this.run)}/volume.${form}?${this.axis.value}=${this.range.value}`;
  }

  show() {
    this.picture.hidden = false;
    this.picture.src = this.address("png");
    this.picture.alt = `Slice at ${this.axis.value} = ${this.range.value} of the volume of ${name(this.run)}`;
    this.link.href = this.address("tif");
    this.shown(ACROSS[this.axis.value], this.link.href);
  }
}

export class Runs {
  constructor(button, dialog) {
    this.button = button;
    this.dialog = dialog;
    this.list = dialog.querySelector("ol");
    this.picture = dialog.querySelector("img");
    this.facts = dialog.querySelector("dl");
    this.code = dialog.querySelector("pre");
    this.files = dialog.querySelector(".files");
    this.volume = new VolumeSlices(dialog.querySelector(".volume"), this.picture, {
      back: (run) => this.show(run),
      located: (run, path) => this.tell(run, path),
      shown: (plane, path) => this.offer(plane, path),
    });
    this.state = "";
    this.chosen = null;
    button.addEventListener("click", async () => {
      await this.load();
      this.choose(this.runs.find((run) => run.folder === this.chosen) ?? this.runs[0]);
      dialog.showModal();
    });
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.querySelector(".copy").addEventListener("click", (event) => this.copy(event.target));
    this.load();
  }

  /** Look again when a scan has ended; its files come a moment later. */
  update(status) {
    const state = `${status.run_uid} ${status.state}`;
    if (state === this.state) return;
    this.state = state;
    for (const delay of [0, 2000, 6000]) setTimeout(() => this.load(), delay);
  }

  async load() {
    const reply = await fetch("api/runs").catch(() => null);
    if (!reply?.ok) return;
    const { runs, catalog } = await reply.json();
    this.runs = runs;
    this.dialog.querySelector(".sources").textContent = catalog;
    this.button.disabled = !this.runs.length;
    this.button.querySelector("span").textContent = this.runs.length ? String(this.runs.length) : "";
    this.list.replaceChildren(...this.runs.map((run) => this.item(run)));
  }

  item(run) {
    const button = document.createElement("button");
    button.type = "button";
    const time = new Date(run.finished * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    const { received, planned } = run.frames ?? {};
    const small = document.createElement("small");
    const where = { running: "running", catalog: "catalog", results: "" }[run.from];
    small.textContent = [time, `${received ?? "?"} of ${planned ?? "?"}`, run.outcome, where].filter(Boolean).join(" · ");
    button.append(name(run), small);
    button.dataset.folder = run.folder;
    button.setAttribute("aria-current", String(run.folder === this.chosen));
    button.addEventListener("click", () => this.choose(run));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  choose(run) {
    if (!run) return;
    this.chosen = run.folder;
    for (const button of this.list.querySelectorAll("button")) {
      button.setAttribute("aria-current", String(button.dataset.folder === run.folder));
    }
    const base = baseOf(run);
    this.show(run);
    this.tell(run);
    this.volume.choose(run);
    this.files.replaceChildren(...(run.picture ? ["xy.tif", "xz.tif", "yz.tif", "summary.json"] : run.from === "results" ? ["summary.json"] : []).map((file) => {
      const link = document.createElement("a");
      link.href = `${base}/${file}`;
      link.textContent = file;
      link.download = `${run.folder}-${file}`;
      return link;
    }));
  }

  /** Show the slices that a run left. */
  show(run) {
    this.picture.hidden = !run.picture;
    this.picture.src = run.picture ? `${baseOf(run)}/slices.png?${run.finished}` : "";
    this.picture.alt = run.picture ? `The three slices of ${name(run)}` : "";
    this.offer("xy", run.from === "running" ? "api/slices/xy.tif" : run.picture ? `${baseOf(run)}/xy.tif` : "");
  }

  /** Offer the Python that opens a slice; none without a path. */
  offer(plane, path) {
    this.code.textContent = path && pythonFor(plane, new URL(path, location.href));
    mark(this.code, { "aria-label": `Python that opens the ${plane.toUpperCase()} slice` });
  }

  tell(run, volume = "") {
    const frames = run.frames ?? {};
    const missing = frames.missing?.length ? ranges(frames.missing, 6) : "none";
    const facts = {
      Run: run.run_uid,
      Plan: run.plan,
      Projections: `${frames.received ?? "?"} of ${frames.planned ?? frames.announced ?? "?"}`,
      Missing: missing,
      ...(frames.without_beam?.length ? { "Without beam": `${ranges(frames.without_beam, 6)}, left out` } : {}),
      Angles: run.coverage_deg === null ? "" : `${number(run.coverage_deg, 4)}°`,
      "Rotation centre": `${number(run.center, 6)} (${run.center_source || "source unknown"})`,
      Filter: run.filter,
      ...(run.volume ? { Volume: [run.volume.join(" × "), volume].filter(Boolean).join(" in ") } : {}),
      "Final after": seconds(run.seconds_last_frame_to_final),
    };
    this.facts.replaceChildren(...Object.entries(facts).flatMap(([term, value]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      [dt.textContent, dd.textContent] = [term, value || "–"];
      return [dt, dd];
    }));
  }

  async copy(button) {
    const words = button.textContent;
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      button.textContent = "Copied";
    } catch {
      // Without HTTPS only a page of this machine may use the clipboard: select the text instead.
      getSelection().selectAllChildren(this.code);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => (button.textContent = words), 2000);
  }
}
