// The circuit viewer: mountCircuit(element, view, options) -> {update, setState, destroy, files}.
//
// `view` is what discover.page.data makes. `options.state` is a plain object (see state.js),
// `options.onState(state)` is told when it changes, `options.downloads` lists buttons:
// {label, href} for a file of the host's, {label, make: "json" | "csv" | "svg" | "png"} for one made here.

import { Controls } from "./controls.js";
import { DamageCurve } from "./damage.js";
import { count, el, replace } from "./dom.js";
import { fileStem, save, toCsv, toSvg } from "./files.js";
import { listen } from "./keys.js";
import { describeNode, fillPanel } from "./panel.js";
import { Picture } from "./picture.js";
import { cleanState, stateFromQuery, stateToQuery } from "./state.js";
import { EdgeTable } from "./table.js";
import { edgeName, findNodes, visible } from "./thin.js";
import { Tip } from "./tip.js";

export { stateFromQuery, stateToQuery };

export const OWN_DOWNLOADS = [
  { label: "JSON", make: "json" },
  { label: "CSV of the edges shown", make: "csv" },
  { label: "SVG of this view", make: "svg" },
  { label: "PNG of this view", make: "png" },
];

export function mountCircuit(element, view, options = {}) {
  const viewer = new Viewer(element, view, options);
  return {
    update: (next) => viewer.update(next),
    setState: (state) => viewer.setState(state),
    getState: () => viewer.state,
    files: () => viewer.files(),
    destroy: () => viewer.destroy(),
  };
}

class Viewer {
  constructor(host, view, { state, onState, downloads = [] }) {
    this.view = view;
    this.state = this.known(cleanState(state));
    this.onState = onState ?? (() => {});
    this.told = stateToQuery(this.state);
    const actions = {
      node: (id) => this.change({ node: id === this.state.node ? "" : id, edge: "" }),
      edge: (id) => this.change({ edge: id, node: "" }),
      nothing: () => this.change({ node: "", edge: "", role: "" }),
      over: (id) => this.over(id),
    };
    this.actions = actions;
    this.controls = new Controls(this, downloads);
    this.table = new EdgeTable(actions);
    this.damage = new DamageCurve();
    this.build(host);
    this.tip = new Tip(this.stage);
    this.picture = new Picture(this.canvas, view, {
      ...actions,
      over: (kind, id, position) => this.hover(kind, id, position),
      out: () => this.leave(),
      moved: () => this.axis(),
      placed: () => this.change(this.picture.place(), { still: true }),
    });
    this.damage.show(view);
    this.unlisten = listen(this);
    this.watch();
    this.picture.goTo(this.state);
    this.refresh();
  }

  build(host) {
    this.canvas = el("div", { class: "circuit-canvas" });
    this.layers = el("div", { class: "circuit-layers", "aria-hidden": "true" });
    this.stage = el(
      "div",
      {
        class: "circuit-stage", tabindex: "0", role: "application",
        "aria-label": "The circuit from the embedding (bottom) to the logits (top). Arrow keys go from node to node, Enter picks one; the same edges stand in the table below.",
      },
      this.canvas,
      this.layers,
      this.controls.zoom,
    );
    this.panel = el("aside", { class: "circuit-panel", "aria-label": "What is picked" });
    this.live = el("p", { class: "circuit-heard", role: "status", "aria-live": "polite" });
    this.root = el(
      "section",
      { class: this.view.run.left ? "circuit circuit-two" : "circuit", "aria-label": "Circuit viewer" },
      this.controls.element,
      this.controls.notes,
      el("div", { class: "circuit-body" }, this.stage, this.panel),
      this.controls.legend,
      this.damage.element,
      this.table.element,
      this.controls.files,
      this.live,
    );
    replace(host, this.root);
  }

  // The theme may change under us, and the room that we have.
  watch() {
    this.restyle = () => {
      this.picture.restyle();
      this.damage.restyle();
      this.refresh({ quiet: true });
    };
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.restyle);
    this.theme = new MutationObserver(this.restyle);
    this.theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.resizes = new ResizeObserver(() => {
      this.picture.resize();
      this.axis();
    });
    this.resizes.observe(this.canvas);
  }

  // A link may name what this circuit lacks: that part of it is without effect.
  known(state) {
    const { view } = this;
    const node = view.nodes.some((item) => item.id === state.node) ? state.node : "";
    const edge = view.edges.some((item) => edgeName(item) === state.edge) ? state.edge : "";
    const roles = state.roles in view.roles ? state.roles : "";
    const role = roles && state.role in view.roles[roles] ? state.role : "";
    return { ...state, node, edge, roles, role };
  }

  get roles() {
    return this.view.roles[this.state.roles];
  }

  change(part, { still = false } = {}) {
    this.state = this.known(cleanState({ ...this.state, ...part }));
    if (still) this.tell();
    else this.refresh();
  }

  tell() {
    const query = stateToQuery(this.state);
    if (query === this.told) return;
    this.told = query;
    this.onState({ ...this.state });
  }

  refresh({ quiet = false } = {}) {
    const { view, state } = this;
    this.seen = visible(view, state);
    this.picture.show(view, this.seen, { ...state, roles: this.roles });
    this.controls.show(view, state, this.seen);
    fillPanel(this.panel, view, this.seen, state, this.roles, this.actions);
    this.table.show(view, this.seen);
    const edge = view.edges.find((item) => edgeName(item) === state.edge);
    this.damage.mark(edge?.step);
    this.axis();
    if (!quiet) this.say(`${count(this.seen.count)} of ${count(view.total)} edges shown`);
    this.tell();
  }

  say(text) {
    clearTimeout(this.saying);
    // Not at every step of a slider that is being drawn.
    this.saying = setTimeout(() => (this.live.textContent = text), 250);
  }

  // Which layer is where, at the left edge of the picture.
  axis() {
    const rows = new Map();
    for (const node of this.view.nodes) {
      if (node.layer === null) continue;
      const row = rows.get(node.layer) ?? { low: Infinity, high: -Infinity };
      rows.set(node.layer, { low: Math.min(row.low, node.y), high: Math.max(row.high, node.y) });
    }
    const { cy } = this.picture ?? {};
    if (!cy) return;
    const height = cy.height();
    let last = Infinity;
    const labels = [];
    for (const [layer, { low, high }] of [...rows].sort((a, b) => a[0] - b[0])) {
      const y = ((low + high) / 2) * cy.zoom() + cy.pan().y;
      if (y < 10 || y > height - 10 || last - y < 15) continue;
      last = y;
      const label = el("span", {}, `${layer}`);
      label.style.top = `${y}px`;
      labels.push(label);
    }
    replace(this.layers, labels.length ? el("b", {}, "layer") : null, labels);
  }

  over(id) {
    this.picture.over(id);
    const edge = this.view.edges.find((item) => edgeName(item) === (id || this.state.edge));
    this.damage.mark(edge?.step);
  }

  hover(kind, id, position) {
    if (kind === "edge") {
      const edge = this.view.edges.find((item) => edgeName(item) === id);
      if (!edge) return;
      this.tip.edge(edge, this.view, position);
      this.damage.mark(edge.step);
    } else {
      this.tip.node(this.view.nodes.find((item) => item.id === id), this.view, this.roles, position);
    }
  }

  leave() {
    this.tip.hide();
    this.over("");
  }

  // A node under the keyboard: said aloud and shown, not yet picked.
  at(id) {
    const node = this.view.nodes.find((item) => item.id === id);
    this.focused = node?.id ?? "";
    this.picture.mark(this.focused);
    if (!node) return;
    this.picture.reveal(id);
    const shown = this.view.edges.filter((_, i) => this.seen.shown[i]);
    const incoming = shown.filter((edge) => edge.target === id).length;
    const outgoing = shown.filter((edge) => edge.source === id).length;
    this.say(`${describeNode(node, this.view)}; ${incoming} incoming, ${outgoing} outgoing edges`);
  }

  search(text) {
    const found = findNodes(this.view, text);
    const node = found.length === 1 || found[0]?.label === text.trim() ? found[0].id : this.state.node;
    this.change({ search: text, ...(node === this.state.node ? {} : { node, edge: "" }) });
    if (found.length === 1) this.picture.reveal(found[0].id);
    return found.length;
  }

  update(view) {
    this.view = view;
    this.state = this.known(this.state);
    this.picture.update(view);
    this.damage.show(view);
    this.refresh({ quiet: true });
  }

  setState(given) {
    this.state = this.known(cleanState(given));
    this.told = stateToQuery(this.state);
    this.picture.goTo(this.state);
    this.refresh();
  }

  files() {
    const { view, picture, state } = this;
    const stem = fileStem(view);
    return {
      json: () => save(`${stem}.json`, `${JSON.stringify(view, null, 1)}\n`, "application/json"),
      csv: () => save(`${stem}.csv`, toCsv(view, visible(view, state)), "text/csv"),
      svg: () => save(`${stem}.svg`, toSvg(view, visible(view, state), { roles: this.roles }), "image/svg+xml"),
      png: () =>
        save(`${stem}.png`, picture.cy.png({ output: "blob", full: true, scale: 2, maxWidth: 8000, maxHeight: 8000, bg: picture.look.ground })),
    };
  }

  destroy() {
    clearTimeout(this.saying);
    this.unlisten();
    this.resizes.disconnect();
    this.theme.disconnect();
    this.scheme.removeEventListener("change", this.restyle);
    this.damage.destroy();
    this.picture.destroy();
    this.root.remove();
  }
}
