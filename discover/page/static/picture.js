// The picture itself: Cytoscape with our own places, curves and widths.

import "./vendor/cytoscape.min.js";
import { colours, strokeOf, styles } from "./look.js";
import { curve, relative, sizeOf, widthOf } from "./shape.js";
import { edgeName, scoreRange } from "./thin.js";

const MANY = 1500; // with more edges than this dashes and curves cost more than they show
const SMALLEST_LABEL = 12; // pixels on the screen

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
    this.restyle();
    this.listen();
  }

  listen() {
    const { cy, handlers } = this;
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
    this.cy.style().fromJson(styles(this.look, { plain: this.plain })).update();
    this.labelSize = 0;
    this.labels();
  }

  // Labels keep 12 pixels on the screen as far as their nodes have room; then they go.
  labels() {
    const size = Math.min(28, Math.max(15, (SMALLEST_LABEL + 0.3) / this.cy.zoom()));
    if (Math.abs(size - this.labelSize) < 0.4) return;
    this.labelSize = size;
    this.cy.nodes().style("font-size", size);
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
        } else {
          old.data(item.data);
          if (item.position) old.position(item.position);
        }
      }
    });
    const plain = view.edges.length > MANY;
    if (plain !== this.plain) {
      this.plain = plain;
      this.restyle();
    }
    this.labelSize = 0;
    this.labels();
    if (!this.touched) this.fit();
  }

  // `view` thinned as `seen` says; what is picked and what a role holds stands out.
  show(view, seen, { node, edge, roles, role }) {
    const { cy } = this;
    const busy = new Set();
    cy.batch(() => {
      cy.elements().removeClass("gone loose dim lit picked empty at");
      view.edges.forEach((item, i) => {
        const drawn = cy.getElementById(edgeName(item));
        if (!seen.shown[i]) drawn.addClass("gone");
        else {
          busy.add(item.source).add(item.target);
          if (!seen.connected[i]) drawn.addClass("loose");
        }
      });
      this.tint(roles, role);
      for (const { head, shared } of groups(view)) if (busy.has(head)) busy.add(shared);
      cy.nodes().forEach((item) => void (busy.has(item.id()) || item.addClass("empty")));
      this.pick(node, edge);
    });
  }

  tint(roles, role) {
    const names = Object.keys(roles ?? {});
    this.cy.nodes().removeClass(Array.from({ length: 8 }, (_, i) => `role-${i}`).join(" "));
    names.forEach((name, i) => {
      for (const id of roles[name]) this.cy.getElementById(id).addClass(`role-${i % 8}`);
    });
    if (role && roles?.[role]) {
      const members = new Set(roles[role]);
      const here = this.cy.nodes().filter((item) => members.has(item.id()));
      this.cy.elements().not(here.union(here.connectedEdges())).addClass("dim");
    }
  }

  pick(node, edge) {
    const { cy } = this;
    const picked = cy.getElementById(edge || node);
    if (picked.empty()) return;
    const near = picked.isNode() ? picked.closedNeighborhood() : picked.union(picked.connectedNodes());
    cy.elements().not(near).addClass("dim");
    near.removeClass("dim").addClass("lit");
    picked.addClass("picked");
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
    return { zoom: Math.round(this.cy.zoom() * 1e4) / 1e4, x: round((x1 + x2) / 2), y: round((y1 + y2) / 2) };
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

  resize() {
    this.cy.resize();
    if (!this.touched) this.fit();
  }

  destroy() {
    this.cy.destroy();
  }
}
