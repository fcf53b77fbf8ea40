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
function along(bar, other, view, aside) {
  const reach = Math.max(0, sizeOf(bar, view).width / 2 - 14);
  return Math.max(-reach, Math.min(reach, (other.x - bar.x) * 0.6 + aside));
}

// With more edges than this a picture is a thicket, in which leading lines around nodes helps nobody.
const LED = 200;
const POINTS = 16;
const ASIDE = [0, 1, -1, 2, -2, 3, -3, 4, -4].map((step) => 28 * step);

// An edge that would pass behind a node looks as if it ended there: it is led around where it can.
export function curve(edge, source, target, view) {
  let best = bent(edge, source, target, view, 0);
  if (view.edges.length > LED) return best;
  const between = view.nodes.filter((node) => node.y < best.start.y && node.y > best.end.y && node !== source && node !== target);
  let fewest = hidden(best, between, view);
  for (const aside of ASIDE.slice(1)) {
    if (!fewest) break;
    const tried = bent(edge, source, target, view, aside);
    const hits = hidden(tried, between, view);
    if (hits < fewest) [best, fewest] = [tried, hits];
  }
  return best;
}

function bent(edge, source, target, view, aside) {
  const from = { x: source.kind === "embed" ? along(source, target, view, aside) : 0, y: -NODE.height / 2 };
  const entry = target.kind === "kv" ? SHARED_ENTRY : ENTRY;
  const to = {
    x: target.kind === "logits" ? along(target, source, view, aside) : entry[edge.port] ?? 0,
    y: NODE.height / 2,
  };
  const start = { x: source.x + from.x, y: source.y + from.y };
  const end = { x: target.x + to.x, y: target.y + to.y };
  const rise = start.y - end.y;
  const lead = Math.min(0.5 * rise, 24 + 0.12 * rise);
  // Off the ends of bars a line runs straight; off a node it must bulge.
  const first = { x: start.x + (source.kind === "embed" ? 0 : aside), y: start.y - lead };
  const second = { x: end.x + (target.kind === "logits" ? 0 : aside), y: end.y + lead };
  return { from, to, start, end, first, second };
}

// How many of the nodes the line passes behind.
function hidden(path, nodes, view) {
  const points = pointsOf(path);
  return nodes.filter((node) => {
    const { width, height } = sizeOf(node, view);
    return points.some(({ x, y }) => Math.abs(x - node.x) < width / 2 + 5 && Math.abs(y - node.y) < height / 2 + 3);
  }).length;
}

// Points of the line as Cytoscape draws it: two arcs that meet in the middle of the control points.
function pointsOf({ start, end, first, second }) {
  const middle = { x: (first.x + second.x) / 2, y: (first.y + second.y) / 2 };
  const arc = (a, b, c) => Array.from({ length: POINTS }, (_, i) => {
    const [t, u] = [(i + 0.5) / POINTS, 1 - (i + 0.5) / POINTS];
    const at = (axis) => u * u * a[axis] + 2 * u * t * b[axis] + t * t * c[axis];
    return { x: at("x"), y: at("y") };
  });
  return [...arc(start, first, middle), ...arc(middle, second, end)];
}

// Control points as Cytoscape wants them: how far along the straight line, and how far beside it.
export function relative({ start, end, first, second }) {
  const [dx, dy] = [end.x - start.x, end.y - start.y];
  const length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / length, dy / length];
  const places = [first, second].map(({ x, y }) => [x - start.x, y - start.y]);
  return {
    weights: places.map(([x, y]) => (x * ux + y * uy) / length),
    distances: places.map(([x, y]) => x * -uy + y * ux),
  };
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
