// The stored evaluations of a run: the figures that matter as a table, all others below it.

import { get, part } from "./api.js";
import { fill, h, notice, table } from "./dom.js";
import { figure, moment, plural, setting, short } from "./format.js";

const PARTS = {
  model: "the whole model",
  circuit: "the circuit alone",
  without: "the model without it",
  empty: "every edge ablated",
  random: "random circuits",
  without_random: "the model without them",
};
const MEASURES = ["kl", "l2", "logit_diff", "prob_diff", "nll", "accuracy", "distance", "faithfulness"];
const SINGLE = {
  incompleteness_random: "completeness, mean over random sets",
  incompleteness_max: "completeness, worst set",
  minimality_min: "minimality, least node",
  minimality_median: "minimality, median node",
  cpr: "CPR, area under faithfulness",
  cmd: "CMD, area under its distance from 1",
};
const MOST = 500;

export async function showEvaluations(element, run) {
  const { items } = await get("evaluations", { run: run.id });
  if (!items.length) {
    fill(element, h("p.hint", null, "None is stored. Measure faithfulness, completeness and minimality on prompts the search never saw: ",
      h("code", null, `discover evaluate ${short(run.id)}`)));
    return;
  }
  fill(element, items.map((record, index) => one(record, index === 0)));
}

// One evaluation; its figures are fetched when it is opened.
function one(record, open) {
  const content = h("div");
  let asked = false;
  const load = async () => {
    if (asked) return;
    asked = true;
    fill(content, h("p.hint", null, "Loading ..."));
    try {
      draw(content, await get(`evaluations/${part(record.id)}`));
    } catch (error) {
      asked = false;
      fill(content, notice("error", error.message));
    }
  };
  const details = h("details", { ontoggle: () => details.open && load() },
    h("summary", null, `Evaluation ${short(record.id)}, ${moment(record.created_at)}`), content);
  details.open = open;
  return details;
}

function draw(element, answer) {
  const rows = answer.measurements;
  const settings = answer.settings ?? {};
  fill(element, settingsLine(settings), parts(rows, settings), singles(rows), all(rows));
}

function settingsLine(settings) {
  const words = Object.entries(settings).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value) && value !== "");
  return h("p.hint", null, words.map(([key, value]) => `${key.replaceAll("_", " ")} ${setting(value)}`).join("; "));
}

function cell(row) {
  if (!row) return "";
  const known = row.low !== null && row.low !== undefined && row.high !== null && row.high !== undefined;
  return [figure(row.value), known ? h("span.interval", null, ` [${figure(row.low, 3)}, ${figure(row.high, 3)}]`) : null];
}

function parts(rows, settings) {
  const find = (subject, measure) => rows.find((row) => row.subject === subject && row.measure === measure);
  const measures = MEASURES.filter((measure) => Object.keys(PARTS).some((subject) => find(subject, measure)));
  const subjects = Object.keys(PARTS).filter((subject) => measures.some((measure) => find(subject, measure)));
  if (!subjects.length) return null;
  const name = (measure) => {
    const unit = measure === "faithfulness" ? settings.metric : rows.find((row) => row.measure === measure)?.unit;
    return { name: unit ? `${measure} (${unit})` : measure, number: true };
  };
  return table("Damage and task, mean over prompts, with intervals", ["Part", ...measures.map(name)],
    subjects.map((subject) => [PARTS[subject], ...measures.map((measure) => cell(find(subject, measure)))]));
}

function singles(rows) {
  const found = rows.filter((row) => SINGLE[row.measure] || row.subject.startsWith("test:"));
  if (!found.length) return null;
  const name = (row) => (row.subject.startsWith("test:") ? `${row.subject.slice(5)} test, ${row.measure}` : SINGLE[row.measure]);
  return table("Single figures", ["Figure", { name: "Value", number: true }, "Unit"],
    found.map((row) => [name(row), cell(row), row.unit]));
}

function all(rows) {
  const shown = rows.slice(0, MOST);
  return h("details", null, h("summary", null, `All ${plural(rows.length, "figure")}`),
    rows.length > MOST ? h("p.hint", null, `The first ${MOST}; discover evaluate --stored --csv writes all.`) : null,
    table("All figures", ["Subject", "Measure", { name: "Value", number: true }, "Unit"],
      shown.map((row) => [row.subject, row.measure, cell(row), row.unit]), "dense"));
}
