// The plot of a sweep. Every point is a run: the table beside it has the same links for a keyboard.

import { fill, h } from "./dom.js";
import { figure, number, short, whole } from "./format.js";

const AXES = [["x", "Kept edges"], ["y", "Damage"]];

export class Pareto {
  constructor({ open, state, onState }) {
    this.open = open;
    this.query = new URLSearchParams(state);
    this.onState = onState;
    this.runs = [];
    this.canvas = h("canvas", { role: "img", "aria-label": "Damage against kept edges; the table below has the same figures" });
    this.hint = h("p.hint");
    this.switches = AXES.map(([axis, name]) => this.logSwitch(axis, name));
    this.element = h("div.pareto", null, h("div.plot", null, this.canvas),
      h("div.filters", null, this.switches.map((each) => each.element)), this.hint);
    this.redraw = () => this.drawChart();
    document.addEventListener("discover:theme", this.redraw);
  }

  logSwitch(axis, name) {
    const input = h("input", { type: "checkbox", onchange: () => {
      this.query.set(`log${axis}`, input.checked ? "1" : "0");
      this.onState(this.query);
      this.drawChart();
    } });
    return { axis, input, element: h("label.tick", null, input, ` ${name} on a log axis`) };
  }

  update(runs) {
    const key = JSON.stringify(runs.map((run) => [run.id, run.kept, run.damage]));
    if (key === this.key) return;
    this.key = key;
    this.runs = runs.toSorted((a, b) => a.kept - b.kept);
    this.drawChart();
  }

  // A log axis where the address asks for it, else where values span more than a factor of 20.
  isLog(axis) {
    const values = this.points().map((point) => point[axis]);
    if (!values.length || Math.min(...values) <= 0) return false;
    const asked = this.query.get(`log${axis}`);
    return asked === null ? Math.max(...values) > 20 * Math.min(...values) : asked === "1";
  }

  points() {
    return this.runs.map((run) => ({ x: run.kept, y: number(run.damage), run }));
  }

  // The runs that no other beats in both: fewer edges and less damage.
  frontier() {
    let best = Infinity;
    const points = this.points().sort((a, b) => a.x - b.x || a.y - b.y);
    return points.filter((point) => {
      const better = point.y < best;
      if (better) best = point.y;
      return better;
    });
  }

  drawChart() {
    const points = this.points();
    for (const { axis, input } of this.switches) {
      const positive = points.length > 0 && points.every((point) => point[axis] > 0);
      input.disabled = !positive;
      input.checked = this.isLog(axis);
    }
    fill(this.hint, points.length
      ? "Each point is a finished run; click it to open its circuit. The line joins the runs that no other beats in both."
      : "Points appear here as runs are done.");
    if (typeof Chart === "undefined") return;
    this.chart?.destroy();
    this.chart = new Chart(this.canvas, this.config(points));
  }

  config(points) {
    const style = getComputedStyle(this.canvas);
    const ink = style.getPropertyValue("--ink").trim();
    const muted = style.getPropertyValue("--line").trim();
    const accent = style.getPropertyValue("--accent").trim();
    const unit = this.runs[0]?.unit;
    const scale = (axis, name) => ({
      type: this.isLog(axis) ? "logarithmic" : "linear",
      title: { display: true, text: name, color: ink },
      ticks: { color: ink, callback: axis === "x" ? whole : (value) => figure(value, 3), maxTicksLimit: 8 },
      grid: { color: muted },
      grace: "5%",
    });
    return {
      type: "scatter",
      data: { datasets: [
        { label: "runs", data: points, pointRadius: 6, pointHoverRadius: 9, backgroundColor: accent, borderColor: ink, order: 1 },
        { label: "frontier", data: this.frontier(), showLine: true, pointRadius: 0, pointHitRadius: 0, borderColor: accent, borderWidth: 2, order: 2 },
      ] },
      options: {
        responsive: true,
        maintainAspectRatio: false,
        animation: false,
        scales: { x: scale("x", "kept edges"), y: scale("y", unit ? `damage (${unit})` : "damage") },
        onClick: (event, found) => found.length && this.open(points[found[0].index].run),
        onHover: (event, found) => {
          this.canvas.style.cursor = found.length ? "pointer" : "";
        },
        plugins: { legend: { display: false }, tooltip: {
          filter: (item) => item.datasetIndex === 0,
          callbacks: { label: (item) => label(item.raw.run) },
        } },
      },
    };
  }

  destroy() {
    document.removeEventListener("discover:theme", this.redraw);
    this.chart?.destroy();
  }
}

function label(run) {
  return `${short(run.id)}: tau ${figure(run.tau)}, ${whole(run.kept)} edges, damage ${figure(run.damage)} ${run.unit ?? ""}`.trim();
}
