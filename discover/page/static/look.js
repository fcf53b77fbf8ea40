// Colours, read from the style sheet so that light, dark and print agree, and Cytoscape's styles.

import { NODE } from "./shape.js";

const NAMES = [
  "ink", "muted", "ground", "panel", "line", "accent", "q", "k", "v", "in", "both", "left", "right",
  "node-head", "node-mlp", "node-bar", "node-kv",
  "role-0", "role-1", "role-2", "role-3", "role-4", "role-5", "role-6", "role-7",
];

export const DASHES = { q: [], k: [7, 4], v: [2, 3], in: [], both: [], left: [2, 3], right: [7, 4] };

export function colours(element) {
  const style = getComputedStyle(element);
  return Object.fromEntries(
    NAMES.map((name) => [name, style.getPropertyValue(`--circuit-${name}`).trim() || "#888888"]),
  );
}

// In a comparison colour and dash say whose an edge is, otherwise which input it enters.
export function strokeOf(edge) {
  return edge.side ?? edge.port;
}

function dashed(name, widen) {
  return DASHES[name].length
    ? { "line-style": "dashed", "line-dash-pattern": DASHES[name].map((length) => length * widen) }
    : { "line-style": "solid" };
}

export function styles(c, { plain, widen = 1 }) {
  const strokes = Object.keys(DASHES).map((name) => ({
    selector: `edge[stroke = "${name}"]`,
    style: { "line-color": c[name], "target-arrow-color": c[name], ...(plain ? {} : dashed(name, widen)) },
  }));
  const roles = Array.from({ length: 8 }, (_, i) => ({
    selector: `node.role-${i}`,
    style: { "background-color": c[`role-${i}`], "border-width": 2 * widen },
  }));
  return [
    {
      selector: "node",
      style: {
        shape: "round-rectangle", width: "data(width)", height: NODE.height,
        label: "data(label)", "text-valign": "center", "text-halign": "center",
        "font-family": "system-ui, sans-serif", "font-size": 15, "min-zoomed-font-size": 11.9,
        color: c.ink, "background-color": c["node-head"], "border-width": widen, "border-color": c.muted,
        "z-index": 10, "overlay-opacity": 0, "transition-duration": 0,
        "text-background-color": c.ground, "text-background-shape": "round-rectangle",
      },
    },
    { selector: 'node[kind = "mlp"]', style: { shape: "rectangle", "background-color": c["node-mlp"] } },
    { selector: 'node[kind = "kv"]', style: { shape: "cut-rectangle", "background-color": c["node-kv"] } },
    { selector: 'node[kind = "embed"], node[kind = "logits"]', style: { "background-color": c["node-bar"] } },
    {
      selector: "edge",
      style: {
        "curve-style": plain ? "straight" : "unbundled-bezier", "edge-distances": "endpoints",
        "source-endpoint": "data(from)", "target-endpoint": "data(to)", width: (edge) => edge.data("width") * Math.max(1, widen * 0.5),
        "target-arrow-shape": "triangle", "arrow-scale": 0.7, opacity: 0.8, "overlay-opacity": 0,
        ...(plain ? {} : {
          "control-point-weights": "data(weights)", "control-point-distances": "data(distances)",
        }),
      },
    },
    ...strokes,
    {
      selector: "edge.internal",
      style: {
        "curve-style": "straight", "line-color": c.muted, "line-style": "dotted", width: 1.5,
        "target-arrow-shape": "none", events: "no", opacity: 0.8,
      },
    },
    ...roles,
    { selector: ".loose", style: { opacity: 0.18 } },
    { selector: "node.empty", style: { opacity: 0.3 } },
    { selector: ".dim", style: { opacity: 0.1 } },
    { selector: "edge.lit", style: { opacity: 1, "z-index": 5 } },
    { selector: "node.lit", style: { opacity: 1 } },
    { selector: "node.picked", style: { opacity: 1, "border-width": 3 * widen, "border-color": c.accent, "font-weight": "bold" } },
    { selector: "node.at", style: { opacity: 1, "border-width": 4 * widen, "border-color": c.accent, "border-style": "double" } },
    { selector: "edge.picked", style: { opacity: 1, "underlay-color": c.accent, "underlay-opacity": 0.35, "underlay-padding": 4, "z-index": 6 } },
    { selector: "edge.over", style: { opacity: 1, "underlay-color": c.accent, "underlay-opacity": 0.25, "underlay-padding": 3, "z-index": 7 } },
    { selector: ".gone", style: { display: "none" } },
  ];
}
