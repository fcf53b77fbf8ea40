// The side panel: what is known of the node or edge that is picked.

import { button, count, el, number, replace, shortNumber } from "./dom.js";
import { edgeName } from "./thin.js";

const PORT_WORDS = { q: "query", k: "key", v: "value", in: "input" };

export function describeNode(node, view) {
  const { kind, layer, id } = node;
  if (kind === "embed") return "embed: what the prompt's tokens and places write";
  if (kind === "logits") return "logits: what the model answers from";
  if (kind === "mlp") return `${id}: MLP of layer ${layer}`;
  if (kind === "kv") return `${id}: key/value head of layer ${layer}, shared by query heads`;
  const [, head] = id.split(".h");
  const shared = view.graph && view.graph.n_heads !== view.graph.n_kv_heads;
  return `${id}: ${shared ? "query head" : "head"} ${head} of layer ${layer}`;
}

export function edgeFacts(edge, view) {
  const unit = view.run.unit ? ` ${view.run.unit}` : "";
  const known = (value) => (value === null ? "not known" : `${shortNumber(value)}${unit}`);
  const facts = [
    ["score", known(edge.score)],
    ["damage before", known(edge.before)],
    ["damage after", known(edge.after)],
    ["rank", edge.rank === null ? "not known" : `${count(edge.rank)} of ${count(view.total)}`],
    ["step", edge.step === null ? "not known" : `${count(edge.step)}`],
    ["enters", `${PORT_WORDS[edge.port]}${edge.port === "in" ? "" : ` (${edge.port})`}`],
  ];
  if (edge.side) facts.push(["in", { both: "both", left: view.run.left, right: view.run.right }[edge.side]]);
  return facts;
}

export function factList(facts) {
  return el("dl", { class: "circuit-facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function bySize(edges) {
  const worth = (edge) => (Number.isNaN(number(edge.score)) ? -Infinity : number(edge.score));
  return [...edges].sort((a, b) => worth(b) - worth(a) || (a.rank ?? 0) - (b.rank ?? 0));
}

const FEW = 60;

function edgeList(edges, name, actions) {
  const list = el("ul", { class: "circuit-edges" });
  const add = (from, to) => {
    for (const edge of edges.slice(from, to)) {
      const id = edgeName(edge);
      const item = button("", () => actions.edge(id), {
        class: "circuit-edge",
        onfocus: () => actions.over(id), onblur: () => actions.over(""),
        onmouseenter: () => actions.over(id), onmouseleave: () => actions.over(""),
      });
      item.append(
        el("span", { class: `circuit-key stroke-${edge.side ?? edge.port}`, "aria-hidden": "true" }),
        el("span", { class: "circuit-end" }, name(edge)),
        el("span", { class: "circuit-number" }, edge.score === null ? "" : shortNumber(edge.score)),
      );
      list.append(el("li", {}, item));
    }
  };
  add(0, FEW);
  if (edges.length <= FEW) return list;
  const more = button(`all ${count(edges.length)}`, () => {
    more.remove();
    add(FEW, edges.length);
  });
  return [list, more];
}

function nodePanel(node, view, seen, roles, actions) {
  const shown = view.edges.filter((_, i) => seen.shown[i]);
  const incoming = bySize(shown.filter((edge) => edge.target === node.id));
  const outgoing = bySize(shown.filter((edge) => edge.source === node.id));
  const held = Object.entries(roles ?? {}).filter(([, ids]) => ids.includes(node.id));
  const parts = [
    el("h3", {}, node.label),
    el("p", {}, describeNode(node, view)),
    held.length ? el("p", {}, `role: ${held.map(([name]) => name).join(", ")}`) : null,
  ];
  for (const [title, edges, name] of [
    ["incoming", incoming, (edge) => `${edge.sender} \u2192 ${edge.port}`],
    ["outgoing", outgoing, (edge) => edge.receiver],
  ]) {
    parts.push(el("h4", {}, `${count(edges.length)} ${title}`));
    parts.push(edges.length ? edgeList(edges, name, actions) : el("p", { class: "circuit-quiet" }, "none shown"));
  }
  return parts;
}

function edgePanel(edge, view, actions) {
  return [
    el("h3", {}, `${edge.sender} \u2192 ${edge.receiver}`),
    factList(edgeFacts(edge, view)),
    el(
      "p",
      { class: "circuit-ends" },
      button(`sender ${edge.source}`, () => actions.node(edge.source)),
      button(`receiver ${edge.target}`, () => actions.node(edge.target)),
    ),
  ];
}

const HELP = [
  ["click, or arrow keys and Enter", "pick a node"],
  ["/", "search for a head"],
  ["Esc", "let go"],
  ["+ \u2212 0", "zoom in, out, to the whole"],
];

function helpPanel() {
  return [
    el("h3", {}, "Nothing picked"),
    el("p", {}, "Pick a node for its edges, or an edge for its numbers."),
    el("dl", { class: "circuit-facts circuit-help" }, HELP.map(([keys, what]) => [el("dt", {}, keys), el("dd", {}, what)])),
  ];
}

export function fillPanel(panel, view, seen, state, roles, actions) {
  const edge = view.edges.find((item) => edgeName(item) === state.edge);
  const node = view.nodes.find((item) => item.id === state.node);
  const close = edge || node ? button("let go", actions.nothing, { class: "circuit-close" }) : null;
  const parts = edge
    ? edgePanel(edge, view, actions)
    : node
      ? nodePanel(node, view, seen, roles, actions)
      : helpPanel();
  replace(panel, close, parts);
}
