// Files made in the browser: the data as JSON and CSV, the view as SVG and PNG.

import { number } from "./dom.js";
import { colours, DASHES, strokeOf } from "./look.js";
import { groups } from "./picture.js";
import { curve, NODE, sizeOf, widthOf } from "./shape.js";
import { edgeName, scoreRange } from "./thin.js";

export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export function fileStem(view) {
  const id = String(view.run.id ?? view.run.run ?? "").slice(0, 8);
  const words = [view.run.task ?? "circuit", id].map((word) => String(word).replace(/[^A-Za-z0-9.-]+/g, "-"));
  return words.join("-").replace(/^-+|-+$/g, "").slice(-60) || "circuit";
}

// Numbers stand as they are; a text that a spreadsheet would take for a formula is made harmless.
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) && Number.isNaN(number(value)) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function toCsv(view, seen) {
  const columns = ["sender", "receiver", "score", "before", "after", "rank", "step"];
  const lines = [[...columns, "connected", ...(view.run.left ? ["side"] : [])].join(",")];
  view.edges.forEach((edge, i) => {
    if (!seen.shown[i]) return;
    const values = [...columns.map((name) => edge[name]), seen.connected[i]];
    lines.push([...values, ...(view.run.left ? [edge.side] : [])].map(cell).join(","));
  });
  return `${lines.join("\r\n")}\r\n`;
}

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  if (text !== undefined) node.textContent = text;
  return node;
}

function lightColours() {
  const probe = document.createElement("div");
  probe.className = "circuit circuit-light";
  probe.hidden = true;
  document.body.append(probe);
  const found = colours(probe);
  probe.remove();
  return found;
}

const at = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;

function path(edge, nodes, view) {
  const { start, end, first, second } = curve(edge, nodes.get(edge.source), nodes.get(edge.target), view);
  const middle = { x: (first.x + second.x) / 2, y: (first.y + second.y) / 2 };
  return `M${at(start)}Q${at(first)} ${at(middle)}Q${at(second)} ${at(end)}`;
}

function arrows(names, c) {
  return names.map((name) => {
    const marker = svg("marker", {
      id: `arrow-${name}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7,
      markerUnits: "userSpaceOnUse", orient: "auto",
    });
    marker.append(svg("path", { d: "M0 0L8 4L0 8z", fill: c[name] }));
    return marker;
  });
}

// The nodes and edges that are shown, whole, whatever the zoom; always dark on light, as for paper.
export function toSvg(view, seen, { roles }) {
  const c = lightColours();
  const nodes = new Map(view.nodes.map((node) => [node.id, node]));
  const range = scoreRange(view);
  const busy = new Set(["embed", "logits"]);
  const lines = [];
  view.edges.forEach((edge, i) => {
    if (!seen.shown[i]) return;
    busy.add(edge.source).add(edge.target);
    const stroke = strokeOf(edge);
    const line = svg("path", {
      d: path(edge, nodes, view), fill: "none", stroke: c[stroke], "stroke-width": widthOf(edge.score, range).toFixed(2),
      "stroke-dasharray": DASHES[stroke].join(" ") || "none", "stroke-opacity": seen.connected[i] ? 0.85 : 0.25,
      "marker-end": `url(#arrow-${stroke})`, id: edgeName(edge),
    });
    line.append(svg("title", {}, `${edgeName(edge)}  score ${edge.score ?? "not known"}`));
    lines.push(line);
  });
  for (const { head, shared } of groups(view)) if (busy.has(head)) busy.add(shared);
  const drawn = view.nodes.filter((node) => busy.has(node.id));
  for (const { head, shared } of groups(view)) {
    if (!busy.has(head)) continue;
    const [a, b] = [nodes.get(shared), nodes.get(head)];
    lines.push(svg("path", { d: `M${at({ x: a.x, y: a.y - 13 })}L${at({ x: b.x, y: b.y + 13 })}`, stroke: c.muted, "stroke-dasharray": "1 3" }));
  }
  const left = Math.min(...drawn.map((node) => node.x - sizeOf(node, view).width / 2)) - 20;
  const right = Math.max(...drawn.map((node) => node.x + sizeOf(node, view).width / 2)) + 20;
  const top = Math.min(...drawn.map((node) => node.y)) - 30;
  const bottom = Math.max(...drawn.map((node) => node.y)) + 30;
  const root = svg("svg", {
    xmlns: SVG, viewBox: [left, top, right - left, bottom - top].map((n) => n.toFixed(1)).join(" "),
    width: (right - left).toFixed(0), height: (bottom - top).toFixed(0), "font-family": "Helvetica, Arial, sans-serif",
  });
  const defs = svg("defs", {});
  defs.append(...arrows(Object.keys(DASHES), c));
  root.append(svg("title", {}, title(view, seen)), defs);
  root.append(svg("rect", { x: left, y: top, width: right - left, height: bottom - top, fill: c.ground }), ...lines);
  for (const node of drawn) root.append(...nodeShapes(node, view, roles, c));
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(root)}\n`;
}

function nodeShapes(node, view, roles, c) {
  const { width } = sizeOf(node, view);
  const held = Object.values(roles ?? {}).findIndex((ids) => ids.includes(node.id));
  const kind = { head: "node-head", mlp: "node-mlp", kv: "node-kv" }[node.kind] ?? "node-bar";
  return [
    svg("rect", {
      x: node.x - width / 2, y: node.y - NODE.height / 2, width, height: NODE.height, rx: node.kind === "mlp" ? 0 : 5,
      fill: held < 0 ? c[kind] : c[`role-${held % 8}`], stroke: c.muted,
    }),
    svg("text", { x: node.x, y: node.y + 5, "text-anchor": "middle", "font-size": 14, fill: c.ink }, node.label),
  ];
}

function title(view, seen) {
  const what = [view.run.model, view.run.task].filter(Boolean).join(", ");
  return `${what}: ${seen.count} of ${view.total} kept edges`;
}
