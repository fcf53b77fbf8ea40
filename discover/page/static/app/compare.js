// Two circuits held against each other: figures, roles, settings, and the pictures.

import { mountCircuit } from "../circuit.js";
import { stateFromQuery, stateToQuery } from "../state.js";
import { get, known, part } from "./api.js";
import { button, fill, h, notice, table } from "./dom.js";
import { figure, model, plural, setting, short, source, whole } from "./format.js";

const KNOWN = "canonical:";
const SIDES = { both: "Shared", left: "Only left", right: "Only right" };
const OVERLAP = { both: "shared", left: "only_left", right: "only_right" };

export async function showCompare(context) {
  context.title("Compare");
  const [left = "", right = ""] = context.parts;
  const result = h("div");
  fill(context.container, h("h1", { tabindex: "-1" }, "Compare"), await picker(context, left, right), result);
  if (!left || !right) {
    fill(result, h("p.empty", null, "Choose two circuits of one model: runs, or a known circuit that one of them is to be held against."));
    return;
  }
  fill(result, h("p.hint", { role: "status" }, "Comparing ..."));
  context.title(`${named(left)} and ${named(right)}`);
  try {
    const found = await get("compare", { left, right });
    if (context.current) draw(context, result, found);
  } catch (error) {
    if (error.status === 401) throw error;
    fill(result, notice("error", error.message));
  }
}

function named(ref) {
  return ref.startsWith(KNOWN) ? ref : short(ref);
}

// Two fields that take any run or known circuit and suggest the latest.
async function picker(context, left, right) {
  const list = h("datalist", { id: "circuits" });
  const problem = h("div");
  const field = (id, name, value) => {
    const input = h("input", { id, list: "circuits", autocomplete: "off", spellcheck: "false", required: true, placeholder: "a run's id, or canonical:ioi" });
    input.value = value;
    return [h("label.choice.grow", null, h("span", null, name), input), input];
  };
  const [leftField, leftInput] = field("left", "Left", left);
  const [rightField, rightInput] = field("right", "Right", right);
  const go = (one, other) => context.go(`#/compare/${part(one.trim())}/${part(other.trim())}`);
  const form = h("form.filters", { "aria-label": "Circuits to compare", onsubmit: (event) => {
    event.preventDefault();
    go(leftInput.value, rightInput.value);
  } },
  leftField, rightField, h("button.primary", { type: "submit" }, "Compare"),
  button("Swap", () => {
    [leftInput.value, rightInput.value] = [rightInput.value, leftInput.value];
    if (leftInput.value && rightInput.value) go(leftInput.value, rightInput.value);
  }), list);
  suggest(list).catch((error) => fill(problem, notice("error", error.message)));
  return h("div", null, form, problem);
}

async function suggest(list) {
  const [runs, circuits] = await Promise.all([get("runs", { status: "done", limit: 100 }), known("canonical")]);
  fill(list,
    runs.items.map((run) => h("option", { value: run.id }, `${model(run.model)}, ${source(run.task)}, ${run.metric}, tau ${figure(run.tau)}, ${whole(run.kept)} edges`)),
    (circuits.items ?? circuits).map((each) => h("option", { value: KNOWN + each.name }, `${each.model}: ${each.summary}`)));
}

function draw(context, element, found) {
  const { left, right, view } = found;
  const pictures = h("section", { "aria-labelledby": "pictures" });
  fill(element,
    h("div.sides", null, side("Left", left), side("Right", right)),
    models(left, right),
    h("section", null, h("h2", null, "Overlap"), overlap(found),
      h("p.hint", null, "Precision: the share of the left that is in the right. Recall: the share of the right that is in the left. Nodes are heads, MLPs and the embedding.")),
    differences(found.spec_differences),
    roles(found.roles),
    pictures,
    lists(found));
  drawPictures(context, pictures, view, left, right);
}

function side(name, circuit) {
  const run = circuit.run;
  const title = typeof run === "string" || run?.id ? h("a", { href: `#/runs/${part(run.id ?? run)}` }, circuit.name) : circuit.name;
  return h("div.side", { "data-side": name.toLowerCase() },
    h("h2", null, `${name}: `, title),
    h("p", null, circuit.model ? `${model(circuit.model)}, ` : "", plural(circuit.edges, "edge"), ", ", plural(circuit.nodes, "node")),
    h("p.hint", null, "sha256 ", h("code", null, (circuit.circuit_hash ?? "").slice(0, 12))));
}

function models(left, right) {
  if (!left.model || !right.model || left.model === right.model) return null;
  return notice("warning", `The left is of ${model(left.model)}, the right of ${model(right.model)}: the same head means the same only if these are the same weights.`);
}

function overlap(found) {
  const columns = ["", ...["Shared", "Only left", "Only right", "Precision", "Recall", "F1", "Jaccard"].map((name) => ({ name, number: true }))];
  const ratio = (value) => (value === null ? "-" : value.toFixed(3));
  return table("Overlap of the two circuits", columns, ["edges", "nodes"].map((what) => {
    const row = found[what];
    return [h("strong", null, what), whole(row.shared), whole(row.only_left), whole(row.only_right), ratio(row.precision), ratio(row.recall), ratio(row.f1), ratio(row.jaccard)];
  }));
}

function differences(all) {
  const rows = Object.entries(all ?? {});
  if (!rows.length) return null;
  const values = (both) => (Array.isArray(both) ? both : [both.left, both.right]);
  return h("section", null, h("h2", null, "Different settings"),
    table("Settings in which the two runs differ", ["Setting", "Left", "Right"],
      rows.map(([key, both]) => [key.replaceAll("_", " "), ...values(both).map(setting)])));
}

function roles(rows) {
  if (!rows?.length) return null;
  return h("section", null, h("h2", null, "Roles in the right circuit"),
    table("How much of each role the left circuit has", ["Role", "Nodes found", "Edges found", "Nodes missing"],
      rows.map((row) => [row.role, `${row.found.length} of ${row.nodes.length}`, `${whole(row.edges_found)} of ${whole(row.edges)}`,
        row.nodes.filter((node) => !row.found.includes(node)).join(", ") || "none"])));
}

// One picture coloured by side, or two beside each other that zoom and move together.
function drawPictures(context, element, view, left, right) {
  let mounted = [];
  const place = h("div.pictures");
  const merged = () => [mountCircuit(first("Both circuits in one"), view, {
    state: stateFromQuery(context.query), onState: (state) => context.replace(stateToQuery(state)),
  })];
  const first = (name) => {
    const pane = h("div.pane", { role: "region", "aria-label": name });
    place.append(pane);
    return pane;
  };
  const panes = () => {
    const both = [["left", left], ["right", right]].map(([which, circuit]) => {
      const pane = h("div.pane", { role: "region", "aria-label": `The ${which} circuit` });
      place.append(h("div.half", null, h("h3", null, circuit.name), pane));
      return [pane, only(view, which, circuit)];
    });
    return link(both, context);
  };
  const choose = (layout) => {
    for (const each of mounted) each.destroy();
    fill(place);
    place.dataset.layout = layout;
    mounted = layout === "two" ? panes() : merged();
    for (const each of switches) each.setAttribute("aria-pressed", String(each.dataset.layout === layout));
  };
  const pick = (layout) => {
    context.query = layoutQuery(layout);
    context.replace(context.query);
    choose(layout);
  };
  const switches = [["one", "One picture"], ["two", "Side by side"]].map(([layout, name]) =>
    button(name, () => pick(layout), { "data-layout": layout, "aria-pressed": "false" }));
  fill(element, h("div.title", null, h("h2", { id: "pictures" }, "Circuits"), h("span.spread"), h("div.switch", { role: "group", "aria-label": "Layout" }, switches)), place);
  context.onLeave(() => mounted.forEach((each) => each.destroy()));
  choose(context.query.get("layout") === "two" ? "two" : "one");
}

function layoutQuery(layout) {
  return new URLSearchParams(layout === "two" ? { layout } : {});
}

// The part of a comparison that one side has; places stay, so the two panes match.
function only(view, which, circuit) {
  const edges = view.edges.filter((edge) => edge.side === "both" || edge.side === which);
  return { ...view, side: which, edges, shown: edges.length, total: circuit.edges, curve: [] };
}

// What is done in one pane happens in the other.
function link(both, context) {
  const mounted = [];
  let told = false;
  both.forEach(([pane, view], index) => {
    mounted.push(mountCircuit(pane, view, {
      state: stateFromQuery(context.query),
      onState: (state) => {
        if (told) return;
        told = true;
        mounted.forEach((each, i) => i !== index && each.setState(state));
        told = false;
        context.replace(`layout=two&${stateToQuery(state)}`);
      },
    }));
  });
  return mounted;
}

function lists(found) {
  const { view } = found;
  const drawn = (which) => view.edges.filter((edge) => edge.side === which).map((edge) => `${edge.sender}->${edge.receiver}`);
  const names = { both: drawn("both"), left: found.extra ?? drawn("left"), right: found.missing ?? drawn("right") };
  return h("section", null, h("h2", null, "Edges"),
    Object.entries(SIDES).map(([which, name]) => {
      const [all, { length }] = [found.edges[OVERLAP[which]], names[which]];
      return h("details", null, h("summary", null, `${name} (${whole(all)})`),
        length < all ? h("p.hint", null, `The ${whole(length)} of them that are drawn.`) : null,
        h("ul.edges", null, names[which].map((edge) => h("li", null, h("code", null, edge)))));
    }));
}
