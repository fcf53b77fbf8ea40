// The form for a run or a sweep. It knows what the server offers; what is allowed, the server says.

import { ApiError, get, known, part, post } from "./api.js";
import { choices, Fields, radios, typed } from "./fields.js";
import { fill, h, notice } from "./dom.js";
import { figure, plural, short, source, whole } from "./format.js";
import { expand } from "./taus.js";

const OTHER = "\u0000other";
const LARGEST = 8 * 1024 * 1024;

export async function showSubmit(context) {
  context.title("Submit");
  const like = context.query.get("like");
  const [models, tasks, settings, earlier] = await Promise.all([
    known("models"), known("tasks"), known("settings"), like ? get(`runs/${part(like)}`) : null,
  ]);
  if (!context.current) return;
  const form = new Form(context, { models, tasks: tasks.items ?? tasks, settings, earlier });
  fill(context.container, h("h1", { tabindex: "-1" }, "Submit"),
    h("p.hint", null, earlier ? `With the settings of run ${short(earlier.id)}. ` : "", "It is queued, and the next free worker takes it up."),
    form.element);
}

class Form {
  constructor(context, { models, tasks, settings, earlier }) {
    this.context = context;
    this.models = models.items ?? models;
    this.any = models.any ?? settings.any_model ?? false;
    this.tasks = tasks;
    this.settings = settings;
    this.spec = earlier?.spec ?? {};
    this.before = { ...settings.defaults, ...this.spec };
    this.kind = context.query.get("kind") === "sweep" ? "sweep" : "run";
    this.from = this.spec.prompts_file ? "file" : "task";
    this.fields = new Fields();
    this.fields.standIn = (name) => this.standIn(name);
    this.taskChosen = Boolean(earlier);
    this.send = h("button.primary", { type: "submit" }, "Submit");
    this.element = h("form.submit", { novalidate: true, autocomplete: "off", onsubmit: (event) => {
      event.preventDefault();
      this.submit();
    } }, this.fields.summary, this.what(), this.prompts(), this.measure(), this.computing(), this.remark(),
    h("div.actions", null, this.send));
    this.changed();
  }

  input(name) {
    return this.fields.all.get(name).input;
  }

  value(name) {
    return this.input(name).value.trim();
  }

  what() {
    const known = this.models.map((each) => [each.name, each.available ? each.name : `${each.name} (not installed)`]);
    const listed = this.models.some((each) => each.name === this.spec.model);
    const select = choices([...known, [OTHER, "another ..."]], this.spec.model ? (listed ? this.spec.model : OTHER) : known[0]?.[0]);
    this.model = this.fields.add("model", "Model", select);
    this.other = this.fields.add("other_model", "Name of the model", typed("text", listed ? "" : this.spec.model, { spellcheck: "false" }),
      this.any ? "A name on the hub, a directory on the worker's machine, or planted:layers=4,heads=4,edges=12,seed=0." : "A planted model, as planted:layers=4,heads=4,edges=12,seed=0, or one that this server was started with.");
    select.addEventListener("change", () => this.changed());
    return h("fieldset", null, h("legend", null, "What"),
      radios("Search", [["run", "one run"], ["sweep", "a sweep over thresholds"]], this.kind, (kind) => {
        this.kind = kind;
        this.changed();
      }), this.model.element, this.other.element);
  }

  prompts() {
    this.task = this.fields.add("task", "Task", choices(this.tasks.map((each) => each.name), this.spec.task ?? this.chosenModel()?.task));
    this.task.input.addEventListener("change", () => {
      this.taskChosen = true;
      this.changed();
    });
    this.file = this.fields.add("prompts_file", "Prompts file", typed("file", "", { accept: ".jsonl,.json,.csv,.tsv,.txt" }),
      `JSONL, CSV or TSV. It is read here and sent as text; its name ends in its format.${again(this.spec.prompts_file)}`);
    this.options = h("div.options");
    const count = this.fields.add("prompts", "Number of prompts", typed("number", this.spec.prompts, { min: "1", step: "1" }));
    const seed = this.fields.add("seed", "Seed", typed("number", this.before.seed ?? 0, { step: "1" }));
    const bos = this.fields.add("bos", "Put a BOS token in front", h("input", { type: "checkbox" }));
    bos.input.checked = Boolean(this.spec.bos);
    return h("fieldset", null, h("legend", null, "Prompts"),
      radios("From", [["task", "a task"], ["file", "a file of your own"]], this.from, (from) => {
        this.from = from;
        this.changed();
      }), this.task.element, this.file.element, this.options, h("div.row", null, count.element, seed.element), bos.element);
  }

  measure() {
    const { settings, before } = this;
    const metrics = Object.entries(settings.metrics).map(([name, unit]) => [name, `${name} (${unit})`]);
    const metric = this.fields.add("metric", "Metric", choices(metrics, before.metric));
    const ablation = this.fields.add("ablation", "Ablation", choices(settings.ablations, before.ablation));
    const means = this.fields.add("mean_by", "Average together", choices(settings.means, before.mean_by), "Positions that a mean ablation averages.");
    const reference = this.reference();
    this.tau = this.fields.add("tau", "Tau", typed("text", this.spec.tau ?? before.tau ?? "", { inputmode: "decimal" }),
      "An edge is removed if its score is below tau, in the metric's unit.");
    this.taus = this.fields.add("taus", "Taus", typed("text", "0.001:1:20log", { spellcheck: "false" }));
    ablation.input.addEventListener("change", () => this.changed());
    metric.input.addEventListener("change", () => this.changed());
    this.taus.input.addEventListener("input", () => this.preview());
    this.mean = h("div", null, means.element, reference);
    return h("fieldset", null, h("legend", null, "Measure"), h("div.row", null, metric.element, ablation.element), this.mean,
      this.tau.element, this.taus.element);
  }

  // A mean ablation's prompts: the run's own, so many further ones, or a file.
  reference() {
    const { reference } = this.spec;
    const kind = typeof reference === "number" ? "number" : reference ? "file" : "own";
    this.referenceKind = this.fields.add("reference_kind", "Mean over", choices([["own", "the run's own prompts"], ["number", "further prompts of the task"], ["file", "a file"]], kind));
    this.referenceNumber = this.fields.add("reference", "How many further prompts", typed("number", kind === "number" ? reference : "", { min: "1", step: "1" }));
    this.referenceFile = this.fields.add("reference_file", "Reference prompts", typed("file", "", { accept: ".jsonl,.json,.csv,.tsv,.txt" }), again(reference).trim());
    this.referenceKind.input.addEventListener("change", () => this.changed());
    return h("div", null, this.referenceKind.element, this.referenceNumber.element, this.referenceFile.element);
  }

  computing() {
    const { settings, before } = this;
    this.drafted = h("p.hint", null, "A sweep drafts each threshold from its neighbour's decisions.");
    const add = (name, label, input, hint) => this.fields.add(name, label, input, hint).element;
    return h("details.more", null, h("summary", null, "Order, precision, memory"),
      h("div.row", null,
        add("order", "Order of the edges", typed("text", before.order ?? "canonical", { list: "orders" }), `${settings.orders.join(", ")}. Greedy search depends on it.`),
        add("dtype", "Precision", choices(settings.dtypes, before.dtype)),
        add("engine", "Engine", choices(settings.engines), "Both give the same circuit.")),
      h("datalist", { id: "orders" }, settings.orders.filter((name) => !name.includes("SEED")).map((name) => h("option", { value: name }))),
      h("p.hint", null, "These change the cost, never the circuit; leave them empty for the defaults."),
      h("div.row", null,
        add("options.block", "Block", typed("number", "", { min: "1", step: "1" }), "Decisions speculated on at once."),
        add("options.threads", "CPU threads", typed("number", "", { min: "1", step: "1" })),
        add("options.memory", "Memory", typed("text", "", { placeholder: "4GiB" })),
        add("options.draft", "Draft", typed("text", "", { placeholder: "a run's id, eap or eap-ig" }), "Whose decisions are guessed.")),
      this.drafted);
  }

  remark() {
    return this.fields.add("note", "Note", h("textarea", { rows: "2", maxlength: "2000" }), "For people; it changes nothing.").element;
  }

  chosenModel() {
    return this.models.find((each) => each.name === this.model.input.value);
  }

  standIn(name) {
    if (name === "model" && !this.chosenModel()) return "other_model";
    return name === "reference" && this.referenceKind.input.value === "file" ? "reference_file" : name;
  }

  // Shows the fields that belong to what is chosen.
  changed() {
    const model = this.chosenModel();
    if (model && !this.taskChosen && this.tasks.some((each) => each.name === model.task)) this.task.input.value = model.task;
    this.other.element.hidden = Boolean(model);
    this.fields.hint(this.model, model ? describe(model) : "");
    const task = this.tasks.find((each) => each.name === this.task.input.value);
    const byTask = this.from === "task";
    this.task.element.hidden = this.options.hidden = !byTask;
    this.file.element.hidden = byTask;
    this.fields.hint(this.task, task ? `${task.description}. ${task.source}` : "");
    this.taskOptions(byTask ? task : null);
    this.fields.hint(this.fields.all.get("prompts"), byTask && task ? `Empty: ${task.prompts}, as the task has it.` : "Empty: all of the file.");
    this.fields.hint(this.fields.all.get("metric"), byTask && task ? `The task's paper measures ${task.metric}.` : "");
    this.changedMeasure();
  }

  changedMeasure() {
    const mean = this.value("ablation") === "mean";
    this.mean.hidden = !mean;
    const kind = this.referenceKind.input.value;
    this.referenceNumber.element.hidden = kind !== "number";
    this.referenceFile.element.hidden = kind !== "file";
    this.tau.element.hidden = this.kind === "sweep";
    this.taus.element.hidden = this.drafted.hidden = this.kind !== "sweep";
    this.fields.all.get("options.draft").element.hidden = this.kind === "sweep";
    this.send.textContent = this.kind === "sweep" ? "Submit the sweep" : "Submit the run";
    this.preview();
  }

  preview() {
    const { taus, problem } = expand(this.value("taus"));
    const many = taus && taus.length > 24;
    this.fields.hint(this.taus, problem ?? `${plural(taus.length, "run")}: ${(many ? taus.slice(0, 24) : taus).map((tau) => figure(tau)).join(", ")}${many ? ", ..." : ""}`);
  }

  taskOptions(task) {
    if (this.shownOptions === task) return;
    for (const name of [...this.fields.all.keys()]) if (name.startsWith("task_options.")) this.fields.drop(name);
    this.shownOptions = task;
    const before = task?.name === this.spec.task ? this.spec.task_options ?? {} : {};
    fill(this.options, Object.entries(task?.options ?? {}).map(([name, allowed]) => {
      const input = Array.isArray(allowed)
        ? choices([["", "default"], ...allowed.map((each) => [each, each])], before[name])
        : typed(allowed === "int" ? "number" : "text", before[name], { placeholder: "default" });
      return this.fields.add(`task_options.${name}`, `Task option: ${name.replaceAll("_", " ")}`, input).element;
    }));
  }

  async submit() {
    this.fields.clearAll();
    this.send.disabled = true;
    try {
      const body = await this.body();
      const sweep = this.kind === "sweep";
      const made = await post(sweep ? "sweeps" : "runs", body);
      this.context.go(sweep ? `#/sweeps/${part(made.id)}` : `#/runs/${part(made.id)}`);
    } catch (error) {
      if (error.status !== 401) this.fields.show(error instanceof ApiError ? error : new ApiError(0, "", error.message, []));
    } finally {
      this.send.disabled = false;
    }
  }

  async body() {
    const text = (name) => this.value(name) || undefined;
    const body = {
      model: this.chosenModel() ? this.value("model") : this.value("other_model"),
      prompts: this.whole("prompts"),
      seed: this.whole("seed"),
      bos: this.input("bos").checked,
      metric: text("metric"), ablation: text("ablation"), order: text("order"), dtype: text("dtype"), engine: text("engine"),
      note: this.input("note").value,
    };
    if (this.from === "file") body.prompts_file = await this.read(this.file, this.spec.prompts_file);
    else Object.assign(body, { task: this.value("task"), task_options: this.chosenOptions() });
    if (body.ablation === "mean") Object.assign(body, await this.meanSettings());
    if (this.kind === "sweep") body.taus = this.value("taus");
    else body.tau = this.number("tau");
    body.options = { block: this.whole("options.block"), threads: this.whole("options.threads"), memory: text("options.memory"), draft: this.kind === "sweep" ? undefined : text("options.draft") };
    if (!Object.values(body.options).some((value) => value !== undefined)) delete body.options;
    return body;
  }

  async meanSettings() {
    const kind = this.referenceKind.input.value;
    const reference = kind === "number" ? this.whole("reference") : kind === "file" ? await this.read(this.referenceFile, this.spec.reference) : null;
    if (reference === undefined) throw wrong("reference", "How many?");
    return { mean_by: this.value("mean_by"), reference };
  }

  chosenOptions() {
    const found = {};
    for (const [name, field] of this.fields.all) {
      if (!name.startsWith("task_options.") || field.input.value === "") continue;
      found[name.slice("task_options.".length)] = field.input.type === "number" ? Number(field.input.value) : field.input.value;
    }
    return found;
  }

  // What is not a number is sent as it stands: the API says what is wrong with it.
  number(name) {
    const text = this.value(name);
    const value = Number(text);
    return text === "" ? undefined : Number.isFinite(value) ? value : text;
  }

  whole(name) {
    if (this.input(name).validity.badInput) throw wrong(name, "This is not a number.");
    return this.number(name);
  }

  // The file that was chosen; or else the earlier run's, where the server has it.
  async read(field, before) {
    const [file] = field.input.files;
    if (!file && isStored(before)) return before;
    if (!file) throw wrong(field.name, "Choose a file.");
    if (file.size > LARGEST) throw wrong(field.name, `This file has ${whole(file.size)} bytes; ${whole(LARGEST)} is the most.`);
    return { name: file.name, text: await file.text() };
  }
}

// A file that was uploaded once has a name by which it may be asked for again.
function isStored(name) {
  return /^sha256:[0-9a-f]{64}\//.test(name ?? "");
}

function again(name) {
  return isStored(name) ? ` Empty: ${source(name)}, as that run had it.` : "";
}

function wrong(field, message) {
  return new ApiError(0, "InputError", message, [{ field, message }]);
}

function describe(model) {
  const words = model.edges ? `${model.description}; ${whole(model.edges)} edges` : model.description;
  return model.available ? words : [`${words}. `, notice("warning", `Not installed where the server runs: ${model.hint}`)];
}
