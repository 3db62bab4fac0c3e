// Small plots over the projections: whether this scan is worth going on with.

import { number } from "./units.js";

const INSET = { left: 2, right: 2, top: 4, bottom: 3 };

/** Where a point lies on a plot: [x, y] shares of its width and height, y up from zero. */
export function scales(points, frames) {
  const values = points.map(([, value]) => value);
  const low = Math.min(0, ...values);
  const high = Math.max(...values, low + 1e-9) * 1.08;
  const last = Math.max(1, (frames ?? 0) - 1, points.at(-1)[0]);
  return ([frame, value]) => [frame / last, (value - low) / (high - low)];
}

export class Trends {
  constructor(section) {
    this.section = section;
    this.canvas = section.querySelector("canvas");
    this.trend = null;
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  update(status) {
    [this.trend] = status.trends ?? [];
    this.frames = status.frames_planned;
    const { trend, section } = this;
    const last = trend?.points.at(-1);
    section.querySelector("h3").textContent = trend?.name ?? "Transmission";
    section.querySelector("output").textContent = last ? `${number(last[1])}${trend.units === "counts" ? " counts" : ""}` : "–";
    section.querySelector(".alarm").hidden = !trend?.warning;
    const words = last ? `${trend.name} over the projections, now ${number(last[1])} ${trend.units}. ${trend.warning}` : "No projections yet";
    if (this.canvas.getAttribute("aria-label") !== words) this.canvas.setAttribute("aria-label", words);
    this.draw();
  }

  draw() {
    const { canvas, trend } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const width = canvas.width - (INSET.left + INSET.right) * ratio;
    const height = canvas.height - (INSET.top + INSET.bottom) * ratio;
    const floor = canvas.height - INSET.bottom * ratio;
    context.strokeStyle = style.getPropertyValue("--edge");
    context.lineWidth = ratio;
    context.beginPath();
    context.moveTo(0, floor + 0.5);
    context.lineTo(canvas.width, floor + 0.5);
    context.stroke();
    if (!trend?.points.length) return;
    const share = scales(trend.points, this.frames);
    context.beginPath();
    trend.points.forEach((point, i) => {
      const [x, y] = share(point);
      context[i ? "lineTo" : "moveTo"](INSET.left * ratio + x * width, floor - y * height);
    });
    context.strokeStyle = style.getPropertyValue(trend.warning ? "--bad" : "--accent");
    context.lineWidth = 1.6 * ratio;
    context.lineJoin = "round";
    context.stroke();
  }
}
