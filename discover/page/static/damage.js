// The curve of damage as decisions were taken, with the edges kept so far on a second axis.

import "./vendor/chart.umd.min.js";
import { count, el, number, shortNumber } from "./dom.js";
import { colours } from "./look.js";

export class DamageCurve {
  constructor() {
    this.canvas = el("canvas", { role: "img" });
    this.note = el("p", { class: "circuit-quiet" });
    this.element = el(
      "details",
      { class: "circuit-curve", open: true, ontoggle: () => this.draw() },
      el("summary", {}, "Damage as decisions were taken"),
      el("div", { class: "circuit-chart" }, this.canvas),
      this.note,
    );
    this.step = null;
  }

  show(view) {
    this.view = view;
    this.element.hidden = view.curve.length < 2;
    this.draw();
  }

  draw() {
    if (!this.view || this.element.hidden || !this.element.open) return;
    const { curve, run } = this.view;
    const last = curve[curve.length - 1];
    const unit = run.unit ? ` ${run.unit}` : "";
    this.note.textContent =
      `After ${count(last[0] + 1)} decisions the damage is ${shortNumber(last[1])}${unit}, ` +
      `with ${count(last[2])} edges kept.`;
    this.canvas.setAttribute("aria-label", `Curve of damage by decision. ${this.note.textContent}`);
    const data = this.data();
    if (this.chart) {
      this.chart.data.datasets.forEach((set, i) => (set.data = data[i]));
      this.chart.update("none");
    } else {
      this.make(data);
    }
  }

  data() {
    const finite = (value) => (Number.isFinite(number(value)) ? number(value) : null);
    return [1, 2].map((column) => this.view.curve.map((point) => ({ x: point[0], y: finite(point[column]) })));
  }

  make(data) {
    const c = colours(this.element);
    const font = { size: 12, family: "system-ui, sans-serif" };
    const axis = (text, position, grid) => ({
      position, title: { display: true, text, color: c.ink, font }, beginAtZero: true,
      ticks: { color: c.ink, font }, grid: { color: c.line, display: grid }, border: { color: c.muted },
    });
    const line = (label, points, color, yAxisID, dash) => ({
      label, data: points, borderColor: color, backgroundColor: color, borderWidth: 2, yAxisID, borderDash: dash,
      pointRadius: 0, pointHoverRadius: 5, stepped: "before", spanGaps: true,
    });
    const unit = this.view.run.unit;
    this.chart = new globalThis.Chart(this.canvas, {
      type: "line",
      data: {
        datasets: [
          line("damage", data[0], c.accent, "y", []),
          line("kept edges", data[1], c.muted, "kept", [5, 4]),
        ],
      },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, parsing: false, normalized: true,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { type: "linear", ...axis("decision", "bottom", false), max: this.view.run.edges ?? undefined },
          y: axis(unit ? `damage (${unit})` : "damage", "left", true),
          kept: axis("kept edges", "right", false),
        },
        plugins: {
          legend: { labels: { color: c.ink, font, boxHeight: 1 } },
          tooltip: {
            titleFont: font, bodyFont: font,
            callbacks: { title: (items) => `decision ${count(items[0].parsed.x)}` },
          },
        },
      },
      plugins: [{ id: "marker", afterDatasetsDraw: (chart) => this.marker(chart, c) }],
    });
  }

  // A line at the decision of the edge that is looked at.
  marker(chart, c) {
    if (this.step === null) return;
    const x = chart.scales.x.getPixelForValue(this.step);
    const { top, bottom } = chart.chartArea;
    chart.ctx.save();
    chart.ctx.strokeStyle = c.q;
    chart.ctx.lineWidth = 2;
    chart.ctx.beginPath();
    chart.ctx.moveTo(x, top);
    chart.ctx.lineTo(x, bottom);
    chart.ctx.stroke();
    chart.ctx.restore();
  }

  mark(step) {
    if (this.step === (step ?? null)) return;
    this.step = step ?? null;
    this.element.dataset.step = this.step === null ? "" : String(this.step);
    this.chart?.draw();
  }

  restyle() {
    this.chart?.destroy();
    this.chart = null;
    this.draw();
  }

  destroy() {
    this.chart?.destroy();
  }
}
