// One run: what it is, how far it has come, its circuit, and all that was found out about it.

import { mountCircuit } from "../circuit.js";
import { stateFromQuery, stateToQuery } from "../state.js";
import { address, follow, get, known, part } from "./api.js";
import { progress, status, workerLine, workers } from "./bits.js";
import { cancelRun, deleteRun, editNote, retryRun } from "./dialogs.js";
import { button, facts, fill, h, notice, say } from "./dom.js";
import { showEvaluations } from "./evaluations.js";
import { ablation, ACTIVE, cancellable, damage, duration, figure, model, moment, readable, setting, short, source, whole } from "./format.js";
import { promptsPanel } from "./prompts.js";

const REFRESH = 2000;

// What the viewer makes itself, of what it shows; the server makes files of the whole circuit.
const OF_THIS_VIEW = [
  { label: "CSV of the edges shown", make: "csv" },
  { label: "SVG of this view", make: "svg" },
  { label: "PNG of this view", make: "png" },
];

export async function showRun(context) {
  const [ref] = context.parts;
  const [run, settings] = await Promise.all([get(`runs/${part(ref)}`), known("settings")]);
  if (!context.current) return;
  context.title(`Run ${short(run.id)}`);
  const view = new RunView(context, run, settings);
  fill(context.container, view.parts());
  context.onLeave(() => view.destroy());
  view.draw(run);
  view.watch();
  await Promise.all([view.refresh(), view.evaluate()]);
}

class RunView {
  constructor(context, run, settings) {
    this.context = context;
    this.run = run;
    this.settings = settings;
    this.status = status();
    this.progress = progress("Decisions");
    this.bar = h("div.big-progress", null, this.progress.element);
    this.line = workerLine();
    this.live = h("span.hint", { role: "status" });
    this.problem = h("div");
    this.reason = h("div");
    this.facts = h("div");
    this.note = h("p.note");
    this.circuit = h("div.circuit-place", null, h("p.hint", null, "Loading ..."));
    this.evaluations = h("div");
    this.details = h("div");
    this.drawn = { decided: -1, status: null };
    this.makeActions();
  }

  makeActions() {
    this.buttons = {
      cancel: button("Cancel", () => this.act(cancelRun)),
      retry: button("Retry", () => this.act(retryRun)),
      note: button("Edit note", () => this.act(editNote)),
      remove: button("Delete", () => this.act(deleteRun), { class: "quiet" }),
    };
    const id = part(this.run.id);
    this.actions = h("div.row-actions", null, this.buttons.cancel, this.buttons.retry, this.buttons.note,
      h("a.button", { href: `#/compare/${id}/` }, "Compare with ..."),
      h("a.button", { href: `#/submit?like=${id}` }, "Another like it"), this.buttons.remove);
  }

  parts() {
    const { run } = this;
    return [
      h("div.title", null, h("h1", { tabindex: "-1" }, "Run ", h("code", null, short(run.id))), this.status.element, this.live,
        h("span.spread"), this.actions),
      this.bar,
      this.line.element, this.problem, this.reason, this.note, this.facts,
      h("section", { "aria-labelledby": "circuit-title" }, h("h2.circuit-title", { id: "circuit-title" }, "Circuit"), this.circuit, this.downloads()),
      h("section", null, h("h2", null, "Evaluations"), this.evaluations),
      h("section", null, h("h2", null, "How it was made"), promptsPanel(run), this.details),
    ];
  }

  // Links that the server answers with a file.
  downloads() {
    this.files = h("ul.downloads", { "aria-label": "Download the whole circuit" }, h("li", null, "Whole circuit:"), this.settings.formats.map((format) =>
      h("li", null, h("a.button", { href: address(`runs/${part(this.run.id)}/export/${format}`).href, download: "" },
        format === "html" ? "HTML (one file)" : format === "prompts" ? "Prompts" : format.toUpperCase()))));
    this.noFiles = h("p.hint", null, "Files to download are made when the run is done.");
    return h("div", null, this.files, this.noFiles);
  }

  draw(run) {
    const before = this.run;
    this.run = { ...before, ...run };
    const now = this.run;
    this.status.update(now);
    this.progress.update(now);
    this.bar.hidden = now.status === "done";
    const done = now.status === "done";
    this.files.hidden = !done;
    this.noFiles.hidden = done;
    this.buttons.cancel.hidden = !cancellable(now);
    this.buttons.retry.hidden = !["failed", "interrupted", "cancelled"].includes(now.status);
    this.buttons.remove.hidden = ACTIVE.has(now.status) && (now.cancelling || cancellable(now));
    say(this.note, now.note ?? "");
    this.note.hidden = !now.note;
    this.drawReason(now);
    fill(this.facts, this.factList(now));
    this.drawDetails(now);
    if (before.status !== now.status) this.context.announce(`Run ${short(now.id)} is ${now.status}`);
  }

  drawReason(run) {
    const from = run.decided ? `goes on from decision ${whole(run.decided)}` : "starts it again";
    const text = {
      failed: [h("strong", null, "It failed: "), h("span.reason", null, readable(run.error) || "no reason is stored."), h("br"), `Mend the cause; Retry then ${from}.`],
      interrupted: [`It was interrupted. Retry ${from}.`],
      cancelled: [`It was cancelled. Retry ${from}.`],
    }[run.status];
    const key = text ? `${run.status} ${run.error} ${run.decided}` : "";
    if (key === this.reason.dataset.key) return;
    this.reason.dataset.key = key;
    fill(this.reason, text ? notice(run.status === "failed" ? "error" : "warning", text) : null);
  }

  factList(run) {
    const spec = run.spec ?? {};
    const sweeps = run.sweeps ?? [];
    return facts([
      ["Model", model(run.model)],
      ["Task", source(run.task)],
      ["Measured", `${run.metric}, ${ablation(run)}`],
      ["Tau", figure(run.tau, 6)],
      ["Kept edges", run.kept === null ? "" : `${whole(run.kept)} of ${whole(run.edges)}`],
      ["Damage", damage(run)],
      ["All edges ablated", run.damage_all_ablated === null || run.damage_all_ablated === undefined ? "" : `${figure(run.damage_all_ablated)} ${run.unit ?? ""}`],
      ["Prompts", `${run.prompts ?? "as the task has it"}${spec.seed === undefined ? "" : `, seed ${spec.seed}`}`],
      ["Time", run.seconds ? duration(run.seconds) : ""],
      ["Worker", ACTIVE.has(run.status) ? run.worker : ""],
      ["Sweeps", sweeps.length ? sweeps.map((id) => [h("a", { href: `#/sweeps/${part(id)}` }, h("code", null, short(id))), " "]) : ""],
    ]);
  }

  drawDetails(run) {
    const open = this.details.querySelector("details")?.open ?? false;
    const rows = [
      ["Id", h("code", null, run.id)], ["Order", run.order], ["Engine", run.engine], ["Attempt", run.attempt],
      ["Evaluated edges", whole(run.evaluated)], ["Edges of dead nodes", whole(run.dead)],
      ["Circuit, SHA-256", run.circuit_hash && h("code", null, run.circuit_hash)], ["Submitted", moment(run.created_at)], ["Started", moment(run.started_at)], ["Finished", moment(run.finished_at)],
      ...Object.entries(run.spec ?? {}).map(([key, value]) => [key.replaceAll("_", " "), setting(value)]),
      ...Object.entries(run.versions ?? {}).map(([key, value]) => [`version of ${key}`, value]),
    ];
    const details = h("details", null, h("summary", null, "Specification and versions"), facts(rows, "long"));
    details.open = open;
    fill(this.details, details);
  }

  // The stream says how far the run has come; the circuit so far is fetched at most every 2 s.
  watch() {
    this.stop?.();
    if (!ACTIVE.has(this.run.status)) return;
    const stop = follow(this.run.id, {
      onRun: (run) => {
        this.draw(run);
        this.refreshSoon();
      },
      onEnd: (run) => this.ended(run),
      onState: (state) => say(this.live, state === "live" ? "live" : "connection lost, trying again ..."),
    });
    const crew = setInterval(() => this.crew(), 5000);
    this.crew();
    this.stop = () => {
      stop();
      clearInterval(crew);
      this.stop = null;
    };
  }

  async crew() {
    const list = await workers().catch(() => null);
    if (list && this.context.current) this.line.update(list, this.run.status === "queued" ? 1 : 0);
  }

  async ended(run) {
    this.stop?.();
    say(this.live, "");
    this.line.update([], 0);
    this.draw(run);
    try {
      this.draw(await get(`runs/${part(run.id)}`));
    } catch {
      // What the stream said is shown; the rest comes when the page is opened again.
    }
    await this.refresh();
  }

  refreshSoon() {
    if (this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.refresh();
    }, Math.max(0, REFRESH - (Date.now() - (this.fetched ?? 0))));
  }

  async refresh() {
    const { run } = this;
    if (this.drawn.decided === run.decided && this.drawn.status === run.status) return;
    if (!run.edges) {
      fill(this.circuit, h("p.empty", null, run.status === "queued" ? "The circuit grows here once a worker has begun." : "There is no circuit: the run had not begun."));
      return;
    }
    this.fetched = Date.now();
    try {
      const view = await get(`runs/${part(run.id)}/view`);
      if (!this.context.current) return;
      this.drawn = { decided: view.run.decided ?? run.decided, status: view.run.status ?? run.status };
      this.show(view);
    } catch (error) {
      if (error.status !== 401 && this.context.current) fill(this.problem, notice("error", error.message));
    }
  }

  show(view) {
    if (this.mounted) return this.mounted.update(view);
    fill(this.circuit);
    this.mounted = mountCircuit(this.circuit, view, {
      state: stateFromQuery(this.context.query),
      downloads: OF_THIS_VIEW,
      onState: (state) => this.context.replace(stateToQuery(state)),
    });
  }

  async evaluate() {
    try {
      await showEvaluations(this.evaluations, this.run);
    } catch (error) {
      fill(this.evaluations, notice("error", error.message));
    }
  }

  async act(work) {
    try {
      const result = await work(this.run);
      if (result === null) return;
      fill(this.problem);
      if (work === deleteRun) return void this.context.go("#/runs");
      this.draw(result);
      this.watch();
      await this.refresh();
    } catch (error) {
      fill(this.problem, notice("error", error.message));
    }
  }

  destroy() {
    this.stop?.();
    clearTimeout(this.timer);
    this.mounted?.destroy();
  }
}
