// The picture itself: Cytoscape with our own places, curves and widths.

import "./vendor/cytoscape.min.js";
import { colours, strokeOf, styles } from "./look.js";
import { curve, relative, sizeOf, widthOf } from "./shape.js";
import { edgeName, scoreRange } from "./thin.js";

const MANY = 1000; // with more edges shown than this dashes and curves cost more than they show
const SMALLEST_LABEL = 12; // pixels on the screen
const LARGEST_LABEL = 28; // units of the picture: a label as wide as its node
const FEW = 60; // so many nodes can have labels wider than themselves
const THIN_BELOW = 0.5; // at a smaller zoom lines are drawn wider than they are

function elements(view) {
  const nodes = new Map(view.nodes.map((node) => [node.id, node]));
  const range = scoreRange(view);
  const found = view.nodes.map((node) => ({
    group: "nodes",
    data: { id: node.id, label: node.label, kind: node.kind, width: sizeOf(node, view).width },
    position: { x: node.x, y: node.y },
  }));
  view.edges.forEach((edge, i) => {
    const source = nodes.get(edge.source);
    const target = nodes.get(edge.target);
    const path = curve(edge, source, target, view);
    found.push({
      group: "edges",
      data: {
        id: edgeName(edge), source: edge.source, target: edge.target, index: i,
        stroke: strokeOf(edge), width: widthOf(edge.score, range),
        from: `${path.from.x}px ${path.from.y}px`, to: `${path.to.x}px ${path.to.y}px`,
        ...relative(path),
      },
    });
  });
  return found.concat(internal(view));
}

// A shared key/value input and the heads that read it: no edges, but they belong together.
export function groups(view) {
  if (!view.graph) return [];
  const size = view.graph.n_heads / view.graph.n_kv_heads;
  const shared = new Set(view.nodes.filter((node) => node.kind === "kv").map((node) => node.id));
  return view.nodes
    .filter((node) => node.kind === "head")
    .map((node) => {
      const [layer, head] = node.id.split(".h");
      return { head: node.id, shared: `${layer}.kv${Math.floor(Number(head) / size)}` };
    })
    .filter((pair) => shared.has(pair.shared));
}

function internal(view) {
  return groups(view).map(({ head, shared }) => ({
    group: "edges",
    classes: "internal",
    data: {
      id: `${shared}=${head}`, source: shared, target: head, stroke: "", width: 1.5, weights: [0.5],
      distances: [0], from: "0px -13px", to: "0px 13px",
    },
  }));
}

export class Picture {
  constructor(element, view, handlers) {
    this.element = element;
    this.handlers = handlers;
    this.touched = false;
    this.worn = new Map(); // the classes of each element
    this.cy = globalThis.cytoscape({
      container: element,
      elements: elements(view),
      layout: { name: "preset", fit: false },
      minZoom: 0.02,
      maxZoom: 6,
      boxSelectionEnabled: false,
      autoungrabify: true,
      autounselectify: true,
      hideEdgesOnViewport: view.edges.length > MANY,
      pixelRatio: "auto",
    });
    this.plain = view.edges.length > MANY;
    this.named = new Set(); // the few nodes whose labels stay, however small their nodes
    this.restyle();
    this.listen();
  }

  listen() {
    const { cy, handlers } = this;
    for (const kind of ["pointerenter", "pointerdown"]) {
      this.element.addEventListener(kind, () => this.moved(), { capture: true });
    }
    const id = (event) => event.target.id();
    cy.on("tap", "node", (event) => handlers.node(id(event)));
    cy.on("tap", "edge", (event) => handlers.edge(id(event)));
    cy.on("tap", (event) => event.target === cy && handlers.nothing());
    cy.on("mouseover", "edge", (event) => {
      event.target.addClass("over");
      handlers.over("edge", id(event), event.renderedPosition);
    });
    cy.on("mouseover", "node", (event) => handlers.over("node", id(event), event.renderedPosition));
    cy.on("mouseout", "node, edge", (event) => {
      event.target.removeClass("over");
      handlers.out();
    });
    cy.on("zoom", () => this.labels());
    cy.on("viewport", () => handlers.moved());
    // A zoom or drag by hand, as against one of ours, is a person's choice to be kept.
    cy.on("dragpan pinchzoom scrollzoom", () => {
      this.touched = true;
      handlers.placed();
    });
  }

  restyle() {
    this.look = colours(this.element);
    this.labelSize = this.widened = 0;
    this.labels();
  }

  // Labels keep 12 pixels on the screen as far as their nodes have room; then they go, but for those
  // of a few nodes that matter. Lines and borders never get so thin that they vanish.
  labels() {
    const zoom = this.cy.zoom();
    const wanted = Math.max(15, (SMALLEST_LABEL + 0.3) / zoom);
    // In steps, since each restyles everything.
    const widen = zoom >= THIN_BELOW ? 1 : 1.25 ** Math.ceil(Math.log(THIN_BELOW / zoom) / Math.log(1.25));
    const again = widen !== this.widened;
    if (Math.abs(wanted - this.labelSize) < 0.4 && !again) return;
    [this.labelSize, this.widened] = [wanted, widen];
    if (again) this.cy.style().fromJson(styles(this.look, { plain: this.plain, widen })).update();
    this.resizeLabels();
  }

  resizeLabels() {
    const small = Math.min(LARGEST_LABEL, this.labelSize);
    this.cy.batch(() => {
      this.cy.nodes().forEach((node) => {
        const size = this.named.has(node.id()) ? this.labelSize : small;
        if (Math.abs(node.numericStyle("font-size") - size) < 0.2) return;
        node.style({ "font-size": size, "text-background-opacity": size > LARGEST_LABEL ? 0.8 : 0 });
      });
    });
  }

  update(view) {
    const wanted = new Map(elements(view).map((item) => [item.data.id, item]));
    const { cy } = this;
    cy.batch(() => {
      cy.elements().filter((item) => !wanted.has(item.id())).remove();
      for (const item of wanted.values()) {
        const old = cy.getElementById(item.data.id);
        if (old.empty()) {
          cy.add(item);
          this.worn.delete(item.data.id);
        } else {
          old.data(item.data);
          if (item.position) old.position(item.position);
        }
      }
    });
    this.resizeLabels(); // new nodes have none yet
    if (!this.touched) this.fit();
  }

  // `view` thinned as `seen` says; what is picked and what a role holds stands out. Only elements
  // that come to look otherwise are touched: restyling thousands at each step of a slider is slow.
  show(view, seen, { node, edge, roles, role }) {
    const wear = new Map();
    const add = (id, name) => wear.set(id, `${wear.get(id) ?? ""} ${name}`);
    const busy = new Set();
    view.edges.forEach((item, i) => {
      if (!seen.shown[i]) add(edgeName(item), "gone");
      else {
        busy.add(item.source).add(item.target);
        if (!seen.connected[i]) add(edgeName(item), "loose");
      }
    });
    for (const { head, shared } of groups(view)) if (busy.has(head)) busy.add(shared);
    for (const item of view.nodes) if (!busy.has(item.id)) add(item.id, "empty");
    Object.values(roles ?? {}).forEach((ids, i) => ids.forEach((id) => add(id, `role-${i % 8}`)));
    this.stress(view, seen, { node, edge, members: roles?.[role] }, add);
    const lit = view.nodes.filter((item) => / (lit|picked)/.test(wear.get(item.id) ?? ""));
    const few = lit.length ? lit.map((item) => item.id) : [...busy];
    this.named = new Set(few.length <= FEW ? few : node ? [node] : []);
    if (seen.count > MANY !== this.plain) {
      this.plain = seen.count > MANY;
      this.restyle();
    } else {
      this.resizeLabels();
    }
    this.cy.batch(() => {
      this.cy.elements().forEach((item) => {
        const id = item.id();
        const names = `${item.hasClass("internal") ? "internal" : ""}${wear.get(id) ?? ""}`.trim();
        if (this.worn.get(id) === names) return;
        this.worn.set(id, names);
        item.classes(names);
      });
    });
  }

  // What is picked (or a role's nodes) with its edges, against all else.
  stress(view, seen, { node, edge, members }, add) {
    const picked = new Set(edge ? [] : node ? [node] : members ?? []);
    if (!edge && !picked.size) return;
    const near = new Set(picked);
    const ends = ({ source, target }) => [source, target];
    view.edges.forEach((item, i) => {
      if (!seen.shown[i]) return;
      const id = edgeName(item);
      const lit = edge ? id === edge : ends(item).some((end) => picked.has(end));
      add(id, lit ? "lit" : "dim");
      // A role's own nodes stand out alone, a picked node or edge with all that it touches.
      if (lit && (edge || node)) ends(item).forEach((end) => near.add(end));
    });
    for (const { head, shared } of groups(view)) {
      const lit = near.has(head) && near.has(shared);
      add(`${shared}=${head}`, lit ? "lit" : "dim");
    }
    for (const item of view.nodes) add(item.id, near.has(item.id) ? "lit" : "dim");
    if (edge || node) add(edge || node, "picked");
  }

  mark(id) {
    this.cy.nodes().removeClass("at");
    if (id) this.cy.getElementById(id).addClass("at");
  }

  over(id) {
    this.cy.edges().removeClass("over");
    if (id) this.cy.getElementById(id).addClass("over");
  }

  fit() {
    this.cy.fit(undefined, 24);
    // One node alone would fill the screen.
    if (this.cy.zoom() > 1.4) {
      this.cy.zoom(1.4);
      this.cy.center();
    }
  }

  zoomBy(factor) {
    const middle = { x: this.cy.width() / 2, y: this.cy.height() / 2 };
    this.cy.zoom({ level: this.cy.zoom() * factor, renderedPosition: middle });
    this.touched = true;
    this.handlers.placed();
  }

  // Where one is: the point in the middle of the picture, so that any screen can go there.
  place() {
    if (!this.touched) return { zoom: null, x: null, y: null };
    const { x1, x2, y1, y2 } = this.cy.extent();
    const round = (value) => Math.round(value * 100) / 100;
    return { zoom: Number(this.cy.zoom().toPrecision(6)), x: round((x1 + x2) / 2), y: round((y1 + y2) / 2) };
  }

  goTo({ zoom, x, y }) {
    this.touched = zoom !== null;
    if (!this.touched) {
      this.fit();
      return;
    }
    const level = Math.min(6, Math.max(0.02, zoom));
    const pan = { x: this.cy.width() / 2 - x * level, y: this.cy.height() / 2 - y * level };
    this.cy.viewport({ zoom: level, pan });
  }

  // Bring a node into sight if it is not.
  reveal(id) {
    const node = this.cy.getElementById(id);
    if (node.empty()) return;
    const at = node.renderedPosition();
    const [w, h] = [this.cy.width(), this.cy.height()];
    if (at.x < 20 || at.y < 20 || at.x > w - 20 || at.y > h - 20) {
      this.cy.center(node);
      this.touched = true;
      this.handlers.placed();
    }
  }

  // Cytoscape remembers where on the page it is, and does not see that what is above has grown.
  moved() {
    this.cy.renderer().invalidateContainerClientCoordsCache();
  }

  resize() {
    this.cy.resize();
    if (!this.touched) this.fit();
  }

  destroy() {
    this.cy.destroy();
  }
}
