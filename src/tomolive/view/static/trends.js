// Small plots that answer "should I stop this scan?": each number over the projections, and the line that it must not cross.

import { number } from "./units.js";
import { mark, write } from "./write.js";

/* global uPlot */

const FOOT_PX = 13;

/**
 * @typedef {object} Trend
 * @property {string} name
 * @property {string} units
 * @property {[number, number | null][]} points
 * @property {string} warning
 * @property {number | null} low
 * @property {number | null} high
 * @property {string} over "projection", or "degrees"
 */

/** What a plot spans: all points, the threshold if it is near, and zero where values cannot be below it. */
export function span(/** @type {Trend} */ { points, low, high }) {
  const values = points.map(([, value]) => value).filter((value) => Number.isFinite(value));
  if (!values.length) return [0, 1];
  let [least, most] = [Math.min(0, ...values), Math.max(...values)];
  if (low !== null) least = Math.min(least, low);
  if (high !== null) most = Math.max(most, high);
  const room = (most - least || 1) * 0.08;
  return [least < 0 ? least - room : least, most + room];
}

/** What is said of the newest value: "0.52"; "▲ 0.01, below 0.4"; of what is over: "▲ projections 60 to 69 saw hardly any beam". */
export function verdict(/** @type {Trend} */ { points, units, low, high, warning }) {
  const value = points.at(-1)?.[1];
  if (value === undefined || value === null) return { words: warning || "–", bad: Boolean(warning) };
  const beyond = low !== null && value < low ? `, below ${number(low)}` : high !== null && value > high ? `, above ${number(high)}` : "";
  if (beyond) return { words: `▲ ${number(value)}${beyond}`, bad: true };
  // A part of something has no unit, whatever it is a part of.
  const unit = ["px", "pixels", "counts", "1/cm", "1/pixel"].includes(units) ? ` ${units}` : "";
  return warning ? { words: `▲ ${warning}`, bad: true } : { words: number(value) + unit, bad: false };
}

class Plot {
  constructor() {
    const figure = document.createElement("figure");
    figure.className = "trend";
    figure.innerHTML = '<figcaption><h3></h3><output></output></figcaption><div class="plot" role="img" tabindex="0"></div>';
    this.figure = figure;
    this.title = figure.querySelector("h3");
    this.output = figure.querySelector("output");
    this.box = figure.querySelector(".plot");
    this.plot = null;
    this.trend = null;
    /** What it was drawn for. */
    this.shown = "";
    new ResizeObserver(() => this.plot?.setSize(this.size)).observe(this.box);
  }

  get size() {
    return { width: Math.max(40, this.box.clientWidth), height: Math.max(24, this.box.clientHeight) };
  }

  update(/** @type {Trend} */ trend, planned, wanted) {
    const now = JSON.stringify([trend, planned, wanted]);
    if (now === this.shown) return;
    this.shown = now;
    this.trend = trend;
    const { words, bad } = verdict(trend);
    write(this.title, { textContent: trend.name });
    write(this.figure, { title: trend.warning });
    this.words = words;
    if (!this.reading) write(this.output, { textContent: words });
    this.figure.classList.toggle("bad", bad);
    const label = `${trend.name} over ${trend.over === "degrees" ? "the angle" : "the projections"}: ${words} ${trend.units}. ${trend.warning}`;
    mark(this.box, { "aria-label": label });
    this.last = Math.max(1, trend.over === "degrees" ? wanted : (planned ?? 1) - 1, trend.points.at(-1)?.[0] ?? 1);
    const data = [trend.points.map(([at]) => at), trend.points.map(([, value]) => value)];
    if (this.plot) this.plot.setData(data);
    else this.plot = new uPlot(this.options(), data, this.box);
  }

  options() {
    const color = (name) => getComputedStyle(this.figure).getPropertyValue(name);
    return {
      ...this.size,
      legend: { show: false },
      padding: [4, 2, FOOT_PX, 2],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: false, range: () => [0, this.last] }, y: { range: () => span(this.trend) } },
      axes: [{ show: false }, { show: false }],
      series: [{}, { stroke: () => color(this.figure.classList.contains("bad") ? "--bad" : "--accent"), width: 1.5, points: { show: false } }],
      hooks: { draw: [(plot) => this.drawThresholds(plot, color("--warn")), (plot) => this.drawEnds(plot, color("--quiet"))], setCursor: [(plot) => this.read(plot)] },
    };
  }

  /** Below the plot, where it begins and ends. */
  drawEnds({ ctx, bbox }, color) {
    const ratio = window.devicePixelRatio || 1;
    const end = this.trend.over === "degrees" ? `${number(this.last, 4)}°` : number(this.last, 6);
    ctx.font = `${10.5 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "bottom";
    ctx.fillStyle = color;
    for (const [words, align, x] of [["0", "left", bbox.left], [end, "right", bbox.left + bbox.width]]) {
      ctx.textAlign = align;
      ctx.fillText(words, x, bbox.top + bbox.height + FOOT_PX * ratio);
    }
  }

  drawThresholds(plot, color) {
    const { ctx, bbox } = plot;
    for (const threshold of [this.trend.low, this.trend.high]) {
      if (threshold === null) continue;
      const y = Math.round(plot.valToPos(threshold, "y", true)) + 0.5;
      ctx.save();
      ctx.beginPath();
      ctx.setLineDash([4, 3]);
      ctx.strokeStyle = color;
      ctx.lineWidth = window.devicePixelRatio || 1;
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.restore();
    }
  }

  /** Under the pointer: which projection, and its value. */
  read(plot) {
    const index = plot.cursor.idx;
    this.reading = index !== null && index !== undefined && plot.cursor.left >= 0;
    const point = this.reading ? this.trend.points[index] : null;
    this.output.textContent = point ? `${this.trend.over === "degrees" ? `${number(point[0], 4)}°` : point[0]}: ${number(point[1])}` : this.words;
  }
}

export class Trends {
  constructor(/** @type {HTMLElement} */ section) {
    this.section = section;
    /** @type {Map<string, Plot>} */
    this.plots = new Map();
    this.status = null;
  }

  /** How many projections and degrees there will be. */
  state(status) {
    this.status = status;
    this.showWorkers(status.workers);
  }

  update(/** @type {Trend[]} */ trends) {
    for (const [name, plot] of this.plots) {
      if (trends.some((trend) => trend.name === name)) continue;
      plot.plot?.destroy();
      plot.figure.remove();
      this.plots.delete(name);
    }
    write(this.section, { hidden: !trends.length && !(this.status?.workers.length > 1) });
    for (const trend of trends) {
      if (!this.plots.has(trend.name)) {
        const plot = new Plot();
        this.plots.set(trend.name, plot);
        this.section.querySelector(".workers").before(plot.figure);
      }
      this.plots.get(trend.name).update(trend, this.status?.frames_planned, this.status?.coverage_wanted ?? 180);
    }
  }

  /** Who works on which rows, when there is more than one. */
  showWorkers(workers) {
    const box = this.section.querySelector(".workers");
    write(box, { hidden: workers.length < 2 });
    if (box.hidden) return;
    const words = workers.map(({ name, rows, done, state }) => `${name}: rows ${rows[0]}–${rows[1] - 1}, ${done} projections, ${state}`);
    if (box.dataset.words === words.join("\n")) return;
    box.dataset.words = words.join("\n");
    box.querySelector("ul").replaceChildren(...words.map((text, i) => {
      const item = document.createElement("li");
      item.textContent = text;
      item.classList.toggle("bad", !["working", "finished"].includes(workers[i].state));
      return item;
    }));
  }
}
