// The sweeps, and one sweep: its runs as points of kept edges and damage, and as a table.

import { get, part, poll } from "./api.js";
import { pager, progress, status, workerLine, workers } from "./bits.js";
import { cancelSweep, deleteSweep } from "./dialogs.js";
import { arrange, bodyCell, button, facts, fill, h, notice, say, table } from "./dom.js";
import { ablation, ACTIVE, age, damage, figure, model, moment, number, plural, setting, short, source, whole } from "./format.js";
import { Pareto } from "./pareto.js";

const LIMIT = 50;
const REFRESH = 5;

export async function showSweeps(context) {
  context.title("Sweeps");
  const offset = Math.max(0, Number(context.query.get("offset")) || 0);
  const list = h("div");
  const pages = pager((next) => context.go(`#/sweeps${next ? `?offset=${next}` : ""}`));
  fill(context.container,
    h("div.title", null, h("h1", { tabindex: "-1" }, "Sweeps"), h("span.spread"), h("a.button.primary", { href: "#/submit?kind=sweep" }, "Submit a sweep")),
    list, pages.element);
  const problem = h("div");
  list.before(problem);
  let drawn = "";
  const load = async () => {
    const page = await get("sweeps", { limit: LIMIT, offset });
    if (!context.current) return;
    fill(problem);
    // What is under the pointer or has the focus is not replaced where only the ages go on.
    const now = JSON.stringify(page);
    if (now !== drawn) drawSweeps(list, pages, page, offset);
    else for (const each of list.querySelectorAll("[data-since]")) say(each, age(each.dataset.since));
    drawn = now;
  };
  await load();
  if (!context.current) return;
  let first = true;
  const polling = poll(async () => {
    if (first) return void (first = false);
    await load().catch((error) => error.status !== 401 && context.current && fill(problem, notice("error", error.message)));
  }, REFRESH);
  context.onLeave(() => polling.stop());
}

function drawSweeps(list, pages, page, offset) {
  const total = page.total ?? offset + page.items.length + (page.items.length === LIMIT ? 1 : 0);
  pages.update({ total, offset, limit: LIMIT });
  if (!page.items.length) {
    fill(list, h("div.empty", null, h("h2", null, "No sweeps yet"),
      h("p", null, "A sweep searches one behaviour at many thresholds: the larger tau, the smaller the circuit and the larger its damage. ",
        h("a", { href: "#/submit?kind=sweep" }, "Submit one"), ".")));
    return;
  }
  fill(list, table("Sweeps", ["Sweep", "Model", "Task", { name: "Runs", number: true }, "Tau", "Age", "Note"],
    page.items.map((sweep) => [
      h("a", { href: `#/sweeps/${part(sweep.id)}`, title: sweep.id }, h("code", null, short(sweep.id))),
      model(sweep.model), source(sweep.task), whole(sweep.runs.length), range(sweep.runs.map((each) => each.tau)),
      h("span", { title: moment(sweep.created_at), "data-since": sweep.created_at }, age(sweep.created_at)), h("span.note", null, sweep.note),
    ])));
}

function range(taus) {
  if (!taus.length) return "";
  const [low, high] = [Math.min(...taus), Math.max(...taus)];
  return low === high ? figure(low) : `${figure(low)} to ${figure(high)}`;
}

const COLUMNS = [
  { name: "Tau", number: true }, { name: "Run" }, { name: "Status" }, { name: "Progress" },
  { name: "Kept", number: true }, { name: "Damage", number: true }, { name: "Time", number: true },
];

export async function showSweep(context) {
  const [ref] = context.parts;
  const sweep = await get(`sweeps/${part(ref)}`);
  if (!context.current) return;
  const view = new Sweep(context, sweep);
  context.title(`Sweep ${short(sweep.id)}`);
  fill(context.container, view.parts());
  context.onLeave(() => view.pareto.destroy());
  view.draw(sweep);
  const polling = poll(() => view.load(), 2);
  context.onLeave(() => polling.stop());
}

class Sweep {
  constructor(context, sweep) {
    this.context = context;
    this.sweep = sweep;
    this.rows = new Map();
    this.line = workerLine();
    this.problem = h("div");
    this.count = h("p.hint", { role: "status" });
    this.body = h("tbody", { role: "rowgroup" });
    this.cancel = button("Cancel", () => this.act(cancelSweep), { hidden: true });
    this.remove = button("Delete", () => this.act(deleteSweep), { class: "quiet" });
    this.pareto = new Pareto({ open: (run) => context.go(`#/runs/${part(run.id)}`), state: context.query, onState: (query) => context.replace(query) });
  }

  parts() {
    const { sweep } = this;
    const spec = sweep.spec ?? {};
    return [
      h("div.title", null, h("h1", { tabindex: "-1" }, "Sweep ", h("code", null, short(sweep.id))), h("span.spread"), this.cancel, this.remove),
      this.line.element, this.problem,
      sweep.note ? h("p.note", null, sweep.note) : null,
      facts([["Model", model(sweep.model)], ["Task", source(sweep.task)], ["Metric", spec.metric], ["Ablation", spec.ablation && ablation(spec)],
        ["Prompts", spec.prompts ?? null], ["Seed", spec.seed], ["Task options", spec.task_options && Object.keys(spec.task_options).length ? setting(spec.task_options) : null],
        ["Begun", moment(sweep.created_at)]]),
      this.count,
      h("section", null, h("h2", null, "Damage against kept edges"), this.pareto.element),
      h("section", null, h("h2", null, "Runs"), h("table.cards.sweep-runs", { role: "table" }, h("caption.hidden-text", null, "Runs of the sweep, tau ascending"),
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, COLUMNS.map((column) => h("th", { role: "columnheader", scope: "col", class: column.number ? "number" : null }, column.name)))), this.body)),
    ];
  }

  async load() {
    try {
      const [sweep, crew] = await Promise.all([get(`sweeps/${part(this.sweep.id)}`), workers()]);
      if (!this.context.current) return;
      fill(this.problem);
      this.draw(sweep);
      this.line.update(crew, sweep.runs.filter((run) => run.status === "queued").length);
    } catch (error) {
      if (error.status !== 401 && this.context.current) fill(this.problem, notice("error", error.message));
    }
  }

  draw(sweep) {
    this.sweep = sweep;
    const done = sweep.runs.filter((run) => run.status === "done");
    const active = sweep.runs.filter((run) => ACTIVE.has(run.status));
    say(this.count, `${whole(done.length)} of ${plural(sweep.runs.length, "run")} done`);
    this.cancel.hidden = !active.length;
    arrange(this.body, sweep.runs.map((run) => this.row(run)));
    this.pareto.update(done.filter((run) => Number.isFinite(number(run.damage))));
  }

  row(run) {
    if (!this.rows.has(run.id)) {
      const parts = { status: status(), progress: progress(`Decisions of run ${short(run.id)}`), kept: h("span"), damage: h("span"), time: h("span") };
      const link = h("a", { href: `#/runs/${part(run.id)}`, title: run.id }, h("code", null, short(run.id)));
      const cells = [figure(run.tau, 6), link, parts.status.element, parts.progress.element, parts.kept, parts.damage, parts.time];
      this.rows.set(run.id, { ...parts, element: h("tr", { role: "row", "data-run": run.id }, cells.map((cell, i) => bodyCell(COLUMNS[i], cell))) });
    }
    const row = this.rows.get(run.id);
    row.status.update(run);
    row.progress.update(run);
    say(row.kept, whole(run.kept));
    say(row.damage, damage(run));
    say(row.time, run.seconds ? `${run.seconds.toFixed(1)} s` : "");
    return row.element;
  }

  async act(work) {
    try {
      const result = await work(this.sweep);
      if (result === null) return;
      if (work === deleteSweep) this.context.go("#/sweeps");
      else await this.load();
    } catch (error) {
      fill(this.problem, notice("error", error.message));
    }
  }
}
