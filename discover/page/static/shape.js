// Where edges leave and enter nodes, their curves and widths: the same on the screen and in files.

import { number } from "./dom.js";

export const NODE = { width: 48, height: 26 };
const BAR = 150;

const ENTRY = { q: -15, k: 0, v: 15, in: 0 };
const SHARED_ENTRY = { k: -10, v: 10 };

export function sizeOf(node, view) {
  if (node.kind !== "embed" && node.kind !== "logits") return NODE;
  const xs = view.nodes.map((other) => other.x);
  const span = Math.max(...xs) - Math.min(...xs);
  return { width: Math.max(BAR, span * 0.6), height: NODE.height };
}

// Long bars are entered and left along their length, so that their many edges fan out less.
function along(bar, other, view) {
  const reach = Math.max(0, sizeOf(bar, view).width / 2 - 14);
  return Math.max(-reach, Math.min(reach, (other.x - bar.x) * 0.6));
}

export function curve(edge, source, target, view) {
  const from = { x: source.kind === "embed" ? along(source, target, view) : 0, y: -NODE.height / 2 };
  const entry = target.kind === "kv" ? SHARED_ENTRY : ENTRY;
  const to = {
    x: target.kind === "logits" ? along(target, source, view) : entry[edge.port] ?? 0,
    y: NODE.height / 2,
  };
  const start = { x: source.x + from.x, y: source.y + from.y };
  const end = { x: target.x + to.x, y: target.y + to.y };
  const rise = start.y - end.y;
  const lead = Math.min(0.5 * rise, 24 + 0.12 * rise);
  const first = { x: start.x, y: start.y - lead };
  const second = { x: end.x, y: end.y + lead };
  return { from, to, start, end, first, second };
}

// A control point as Cytoscape wants it: how far along the straight line, and how far beside it.
export function relative({ start, end, first }) {
  const [dx, dy] = [end.x - start.x, end.y - start.y];
  const length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / length, dy / length];
  const [cx, cy] = [first.x - start.x, first.y - start.y];
  const weight = (cx * ux + cy * uy) / length;
  const beside = cx * -uy + cy * ux;
  return { weights: [weight, 1 - weight], distances: [beside, -beside] };
}

export const WIDTHS = { thin: 1, thick: 5, unscored: 1.6 };

// Linear in the logarithm from the least score to the largest, over a factor of ten at least.
export function widthOf(score, range) {
  const value = number(score);
  if (!range || Number.isNaN(value)) return WIDTHS.unscored;
  const high = Math.max(range.high, range.low * 10);
  if (value <= range.low) return WIDTHS.thin;
  const share = Math.min(1, Math.log(Math.min(value, high) / range.low) / Math.log(high / range.low));
  return WIDTHS.thin + (WIDTHS.thick - WIDTHS.thin) * share;
}
