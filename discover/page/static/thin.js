// Which edges a view shows: thinning by stored scores, and what is still connected then.

import { number } from "./dom.js";

export function edgeName(edge) {
  return `${edge.sender}->${edge.receiver}`;
}

// The ends of the slider: from tau, the least score that a search keeps, to the largest score.
export function scoreRange(view) {
  const scores = view.edges.map((edge) => number(edge.score)).filter(Number.isFinite);
  const positive = scores.filter((score) => score > 0);
  if (!positive.length) return null;
  const high = positive.reduce((a, b) => Math.max(a, b));
  let low = positive.reduce((a, b) => Math.min(a, b));
  const tau = number(view.run.tau);
  // Where smaller scores are not here at all the slider begins at the least one that is.
  if (tau > 0 && tau <= low && view.shown === view.total) low = tau;
  return { low, high };
}

export function atShare(range, share) {
  if (share <= 0) return null;
  if (share >= 1) return range.high;
  return range.low * (range.high / range.low) ** share;
}

export function shareOf(range, threshold) {
  if (threshold === null || range.high <= range.low) return 0;
  const share = Math.log(threshold / range.low) / Math.log(range.high / range.low);
  return Math.min(1, Math.max(0, share));
}

export function passes(edge, threshold) {
  if (threshold === null) return true;
  const score = number(edge.score);
  // An edge whose score is not known is not thinned away: nothing says that it is small.
  return Number.isNaN(score) || score >= threshold;
}

export function visible(view, state) {
  const stays = view.edges.map((edge) => passes(edge, state.threshold));
  const connected =
    state.threshold === null ? view.edges.map((edge) => edge.connected) : joined(view, stays);
  const shown = view.edges.map(
    (edge, i) =>
      stays[i] &&
      state.ports.includes(edge.port) &&
      (!edge.side || state.sides.includes(edge.side)) &&
      (connected[i] || !state.hide),
  );
  return {
    shown,
    connected,
    stays: stays.filter(Boolean).length,
    count: shown.filter(Boolean).length,
    loose: stays.filter((stay, i) => stay && !connected[i]).length,
  };
}

// Of two circuits in one view each is connected by itself: joined, paths appear that neither has.
function joined(view, stays) {
  if (!view.edges.some((edge) => edge.side)) return connectedEdges(view, stays);
  const found = ["left", "right"].map((side) =>
    connectedEdges(
      view,
      stays.map((stay, i) => stay && ["both", side].includes(view.edges[i].side)),
    ),
  );
  return stays.map((_, i) => found[0][i] || found[1][i]);
}

// An edge counts if its sender is fed from the embedding and its receiver's node reaches the logits.
export function connectedEdges(view, stays) {
  const size = view.graph ? view.graph.n_heads / view.graph.n_kv_heads : 1;
  const into = (target) => {
    const [layer, group] = target.split(".kv");
    if (group === undefined) return [target];
    return Array.from({ length: size }, (_, i) => `${layer}.h${Number(group) * size + i}`);
  };
  const [onward, backward] = [new Map(), new Map()];
  const add = (map, key, value) => (map.has(key) ? map.get(key).push(value) : map.set(key, [value]));
  view.edges.forEach((edge, i) => {
    if (!stays[i]) return;
    for (const node of into(edge.target)) {
      add(onward, edge.source, node);
      add(backward, node, edge.source);
    }
  });
  const fed = reach(["embed"], onward);
  const reaching = reach(["logits"], backward);
  return view.edges.map(
    (edge, i) =>
      stays[i] && fed.has(edge.source) && into(edge.target).some((node) => reaching.has(node)),
  );
}

function reach(from, steps) {
  const found = new Set(from);
  const open = [...from];
  while (open.length) {
    for (const next of steps.get(open.pop()) ?? []) {
      if (!found.has(next)) {
        found.add(next);
        open.push(next);
      }
    }
  }
  return found;
}

// "9.9", "a9.h9", "a9.h9.q" and "m3" all name a node; other text finds what begins like it.
export function findNodes(view, text) {
  const wanted = text.trim().toLowerCase().replace(/\.(q|k|v|in)$/, "");
  if (!wanted) return [];
  const names = (node) => [node.id, node.label];
  const exact = view.nodes.filter((node) => names(node).includes(wanted));
  if (exact.length) return exact;
  return view.nodes.filter((node) => names(node).some((name) => name.startsWith(wanted)));
}
