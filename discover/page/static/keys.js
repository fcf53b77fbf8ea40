// The keyboard: from node to node, to the search and back, nearer and farther.

const STEP = 1.25;
const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

function typing(target) {
  return target.closest?.("input, textarea, select, [contenteditable]") !== null;
}

// Sideways along the row; up and down to the nearest node of the next row that has one.
export function neighbour(nodes, from, [dx, dy]) {
  if (dx) {
    const row = nodes.filter((node) => node.y === from.y && (node.x - from.x) * dx > 0);
    return row.sort((a, b) => Math.abs(a.x - from.x) - Math.abs(b.x - from.x))[0];
  }
  const beyond = nodes.filter((node) => (node.y - from.y) * dy > 0);
  const next = Math.min(...beyond.map((node) => Math.abs(node.y - from.y)));
  const row = beyond.filter((node) => Math.abs(node.y - from.y) === next);
  return row.sort((a, b) => Math.abs(a.x - from.x) - Math.abs(b.x - from.x))[0];
}

function move(viewer, direction) {
  const { view, seen } = viewer;
  const busy = new Set(["embed", "logits"]);
  view.edges.forEach((edge, i) => seen.shown[i] && busy.add(edge.source).add(edge.target));
  const nodes = view.nodes.filter((node) => busy.has(node.id));
  const here = view.nodes.find((node) => node.id === (viewer.focused || viewer.state.node));
  const next = here ? neighbour(nodes, here, direction) : nodes.find((node) => node.id === "logits");
  if (next) viewer.at(next.id);
}

export function listen(viewer) {
  const { stage, root, controls, picture } = viewer;
  const onStage = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== stage) return;
    if (event.key in ARROWS) move(viewer, ARROWS[event.key]);
    else if (event.key === "Enter" || event.key === " ") {
      if (!viewer.focused) return;
      viewer.actions.node(viewer.focused);
      picture.mark(viewer.focused);
    } else if (event.key === "+" || event.key === "=") picture.zoomBy(STEP);
    else if (event.key === "-") picture.zoomBy(1 / STEP);
    else if (event.key === "0") viewer.change({ zoom: null }), picture.goTo(viewer.state);
    else return;
    event.preventDefault();
  };
  const onPage = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !typing(event.target)) {
      controls.goToSearch();
      event.preventDefault();
    } else if (event.key === "Escape" && (root.contains(event.target) || event.target === document.body)) {
      viewer.tip.hide();
      viewer.at("");
      if (event.target === controls.search) stage.focus();
      viewer.change({ node: "", edge: "", role: "", search: "" });
    }
  };
  const onBlur = () => viewer.at("");
  stage.addEventListener("keydown", onStage);
  stage.addEventListener("blur", onBlur);
  document.addEventListener("keydown", onPage);
  return () => document.removeEventListener("keydown", onPage);
}
