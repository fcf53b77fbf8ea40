// All runs as a live table: filters, order and page are in the address.

import { get, known, part, poll } from "./api.js";
import { pager, progress, select, status, STATUSES, workerLine, workers } from "./bits.js";
import { cancelRun, deleteRun, editNote, retryRun } from "./dialogs.js";
import { arrange, bodyCell, button, fill, h, notice, say } from "./dom.js";
import { ablation, ACTIVE, age, cancellable, damage, figure, model, moment, plural, readable, short, source, whole } from "./format.js";

const LIMIT = 50;
const COLUMNS = [
  { name: "" },
  { name: "Run" },
  { name: "Status", sort: "status" },
  { name: "Progress" },
  { name: "Model", sort: "model" },
  { name: "Task", sort: "task" },
  { name: "Measured" },
  { name: "Tau", sort: "tau", number: true },
  { name: "Kept", sort: "kept", number: true },
  { name: "Damage", sort: "damage", number: true },
  { name: "Age", sort: "created_at" },
  { name: "Note" },
  { name: "Actions" },
];
const FILTERS = ["status", "model", "task", "search", "metric", "ablation", "sweep"];

export async function showRuns(context) {
  context.title("Runs");
  const view = new Runs(context);
  fill(context.container, view.head, view.line.element, view.filters, view.problem, view.empty, view.table,
    view.pager.element);
  const polling = poll(() => view.load(), 2);
  context.onLeave(() => polling.stop());
  view.reload = () => polling.now();
  view.known();
}

class Runs {
  constructor(context) {
    this.context = context;
    this.query = new URLSearchParams(context.query);
    this.rows = new Map();
    this.chosen = new Set();
    this.reload = () => {};
    this.line = workerLine();
    this.problem = h("div");
    this.empty = h("div", { hidden: true });
    this.count = h("span.count");
    this.compare = button("Compare", () => this.compareChosen(), { disabled: true });
    this.compareHint = h("span.hint", { id: "compare-hint" }, "Tick two runs to compare them");
    this.head = h("div.title", null, h("h1", { tabindex: "-1" }, "Runs"), this.count,
      h("span.spread"), this.compareHint, this.compare, h("a.button.primary", { href: "#/submit" }, "Submit"));
    this.pager = pager((offset) => this.change("offset", offset || ""));
    this.makeFilters();
    this.makeTable();
  }

  makeFilters() {
    const { query } = this;
    this.status = select("Status", this.statusOptions({}), query.get("status") ?? "", (v) => this.change("status", v));
    this.model = select("Model", this.options("model", []), query.get("model") ?? "", (v) => this.change("model", v));
    this.task = select("Task", this.options("task", []), query.get("task") ?? "", (v) => this.change("task", v));
    this.search = h("input", { type: "search", placeholder: "id, model, task, note", maxlength: "200" });
    this.search.value = query.get("search") ?? "";
    let timer = null;
    this.search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.change("search", this.search.value.trim()), 250);
    });
    this.context.onLeave(() => clearTimeout(timer));
    this.clear = button("Clear", () => this.clearFilters(), { class: "quiet", hidden: true });
    this.filters = h("form.filters", { role: "search", "aria-label": "Filter runs", onsubmit: (e) => e.preventDefault() },
      this.status.element, this.model.element, this.task.element,
      h("label.choice.grow", null, h("span", null, "Search"), this.search), this.clear);
  }

  makeTable() {
    this.sorts = COLUMNS.map((column) => this.headCell(column));
    this.body = h("tbody", { role: "rowgroup" });
    this.table = h("table.cards.runs", { role: "table" }, h("caption.hidden-text", null, "Runs"),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, this.sorts)), this.body);
  }

  headCell(column) {
    const cell = h("th", { role: "columnheader", scope: "col", class: column.number ? "number" : null });
    if (column.sort) {
      cell.dataset.sort = column.sort;
      cell.append(button(column.name, () => this.sortBy(column.sort), { class: "sort" }));
    } else cell.append(column.name ? column.name : h("span.hidden-text", null, "Choose"));
    return cell;
  }

  statusOptions(counts) {
    const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
    const name = (word, n) => (Object.keys(counts).length ? `${word} (${whole(n ?? 0)})` : word);
    return [["", name("all", total)], ...STATUSES.map((each) => [each, name(each, counts[each])])];
  }

  // What the server knows, what is in the list, and what the address asks for.
  options(key, names) {
    const now = this.query.get(key);
    const all = [...new Set([...names, ...(now ? [now] : [])])].sort();
    return [["", "all"], ...all.map((name) => [name, key === "model" ? model(name) : source(name)])];
  }

  async known() {
    this.names = { model: new Set(), task: new Set() };
    try {
      const [models, tasks] = await Promise.all([known("models"), known("tasks")]);
      for (const each of models.items ?? models) this.names.model.add(each.name);
      for (const each of tasks.items ?? tasks) this.names.task.add(each.name);
    } catch {
      // The list itself says what is wrong.
    }
    this.drawFilters([]);
  }

  drawFilters(items) {
    for (const key of ["model", "task"]) {
      for (const run of items) this.names?.[key].add(run[key]);
      this[key].update(this.options(key, this.names?.[key] ?? []), this.query.get(key) ?? "");
    }
    this.clear.hidden = !FILTERS.some((key) => this.query.get(key));
  }

  change(key, value) {
    if (value === "") this.query.delete(key);
    else this.query.set(key, value);
    if (key !== "offset") this.query.delete("offset");
    this.context.replace(this.query);
    this.reload();
  }

  clearFilters() {
    for (const key of [...FILTERS, "offset"]) this.query.delete(key);
    this.search.value = "";
    this.context.replace(this.query);
    this.reload();
    this.search.focus();
  }

  sortBy(sort) {
    const now = this.order();
    const text = ["model", "task", "status"].includes(sort);
    const descending = now.sort === sort ? !now.descending : !text;
    this.query.set("sort", sort);
    this.query.set("descending", descending);
    this.change("offset", "");
  }

  order() {
    return {
      sort: this.query.get("sort") ?? "created_at",
      descending: (this.query.get("descending") ?? "true") !== "false",
    };
  }

  async load() {
    const offset = Math.max(0, Number(this.query.get("offset")) || 0);
    const asked = this.query.toString();
    const query = { ...Object.fromEntries(FILTERS.map((key) => [key, this.query.get(key)])), ...this.order(), limit: LIMIT, offset };
    try {
      const [page, crew] = await Promise.all([get("runs", query), workers()]);
      if (!this.context.current) return;
      if (asked !== this.query.toString()) return void this.reload();
      fill(this.problem);
      this.draw(page, crew);
    } catch (error) {
      if (error.status === 401 || !this.context.current) return;
      // The address may ask for what there is not: then the person is to know, not to see an old list.
      fill(this.problem, notice("error", error.message));
    }
  }

  draw(page, crew) {
    say(this.count, plural(page.total, "run"));
    this.status.update(this.statusOptions(page.statuses), this.query.get("status") ?? "");
    this.drawFilters(page.items);
    this.line.update(crew, page.statuses.queued ?? 0);
    this.pager.update(page);
    this.drawOrder();
    const now = Date.now();
    arrange(this.body, page.items.map((run) => this.row(run, now)));
    for (const id of [...this.rows.keys()]) if (!page.items.some((run) => run.id === id)) this.rows.delete(id);
    this.table.hidden = page.items.length === 0;
    this.drawEmpty(page);
  }

  drawOrder() {
    const { sort, descending } = this.order();
    for (const cell of this.sorts) {
      if (!cell.dataset.sort) continue;
      if (cell.dataset.sort === sort) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  drawEmpty(page) {
    const state = page.items.length ? "" : FILTERS.some((key) => this.query.get(key)) ? "filtered" : page.total ? "past" : "none";
    this.empty.hidden = state === "";
    if (state === this.empty.dataset.state) return;
    this.empty.dataset.state = state;
    if (state === "filtered") fill(this.empty, h("p.empty", null, "No run is like that. ", button("Clear the filters", () => this.clearFilters())));
    if (state === "past") fill(this.empty, h("p.empty", null, "This page of the list is empty. ", button("First page", () => this.change("offset", ""))));
    if (state === "none") {
      fill(this.empty, h("div.empty", null, h("h2", null, "No runs yet"),
        h("p", null, h("a", { href: "#/submit" }, "Submit one here"), ", or on the command line: "),
        h("p", null, h("code", null, "discover submit --model tiny-ioi --task ioi --tau 0.02")),
        h("p.hint", null, "tiny-ioi comes with the program; its run takes seconds.")));
    }
  }

  row(run, now) {
    if (!this.rows.has(run.id)) this.rows.set(run.id, new Row(this, run));
    const row = this.rows.get(run.id);
    row.update(run, now);
    return row.element;
  }

  choose(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this.compare.disabled = this.chosen.size !== 2;
    say(this.compareHint, this.chosen.size === 2 ? "" : this.chosen.size > 2 ? "Only two can be compared" : this.chosen.size ? "Tick one more run" : "Tick two runs to compare them");
  }

  compareChosen() {
    // Left and right in the order in which they were ticked.
    const [left, right] = [...this.chosen];
    this.context.go(`#/compare/${part(left)}/${part(right)}`);
  }

  // Does something to a run, and says what came of it.
  async act(work, run, done) {
    try {
      const result = await work(run);
      if (result === null) return;
      this.context.announce(`Run ${short(run.id)} ${done}`);
      fill(this.problem);
    } catch (error) {
      fill(this.problem, notice("error", error.message));
    }
    this.reload();
  }
}

class Row {
  constructor(view, run) {
    this.view = view;
    this.run = run;
    const name = short(run.id);
    this.tick = h("input", { type: "checkbox", "aria-label": `Choose run ${name} to compare`, onchange: () => view.choose(run.id, this.tick.checked) });
    this.tick.checked = view.chosen.has(run.id);
    this.status = status();
    this.progress = progress(`Decisions of run ${name}`);
    this.text = Object.fromEntries(["Measured", "Tau", "Kept", "Damage", "Age", "Note"].map((key) => [key, h("span")]));
    this.text.Note.className = "note";
    this.buttons = {
      note: button("Note", () => view.act(editNote, this.run, "has a new note"), { "aria-label": `Edit the note of run ${name}` }),
      cancel: button("Cancel", () => view.act(cancelRun, this.run, "is cancelled"), { "aria-label": `Cancel run ${name}` }),
      retry: button("Retry", () => view.act(retryRun, this.run, "is queued again"), { "aria-label": `Retry run ${name}` }),
      delete: button("Delete", () => view.act(deleteRun, this.run, "is deleted"), { "aria-label": `Delete run ${name}` }),
    };
    const link = h("a", { href: `#/runs/${part(run.id)}`, title: run.id }, h("code", null, name));
    const cells = {
      "": this.tick, Run: link, Status: this.status.element, Progress: this.progress.element,
      Model: model(run.model), Task: source(run.task), ...this.text,
      Actions: h("div.row-actions", null, Object.values(this.buttons)),
    };
    this.element = h("tr", { role: "row", "data-run": run.id }, COLUMNS.map((column) => bodyCell(column, cells[column.name])));
  }

  update(run, now) {
    this.run = run;
    this.status.update(run);
    this.progress.update(run);
    say(this.text.Measured, `${run.metric}, ${ablation(run)}`);
    say(this.text.Tau, figure(run.tau));
    say(this.text.Kept, whole(run.kept));
    say(this.text.Damage, damage(run));
    say(this.text.Age, age(run.created_at, now));
    this.text.Age.title = moment(run.created_at);
    say(this.text.Note, run.note ?? "");
    if (run.status === "failed" && run.error) this.status.element.title = readable(run.error);
    else this.status.element.removeAttribute("title");
    this.buttons.cancel.hidden = !cancellable(run);
    this.buttons.retry.hidden = !["failed", "interrupted", "cancelled"].includes(run.status);
    this.buttons.delete.hidden = ACTIVE.has(run.status) && (run.cancelling || cancellable(run));
  }
}
