// Everything above and below the picture: threshold, toggles, search, roles, legend, downloads.

import { button, count, el, replace, shortNumber, uniqueId } from "./dom.js";
import { PORTS, SIDES } from "./state.js";
import { atShare, scoreRange, shareOf } from "./thin.js";

const STEPS = 1000;
const PORT_LABELS = { q: "q", k: "k", v: "v", in: "MLP, logits" };
const ZOOM = 1.35;
const PHONE = "(max-width: 760px)";

function labelled(text, control, attributes = {}) {
  control.id ||= uniqueId("circuit");
  return el("span", { class: "circuit-field", ...attributes }, el("label", { for: control.id }, text), control);
}

function whose({ run, side }) {
  if (side) return `edges of ${run[side]}`;
  return run.left ? "edges of the two circuits" : "kept edges";
}

export class Controls {
  constructor(viewer, downloads) {
    this.viewer = viewer;
    this.downloads = downloads;
    this.slider = el("input", { type: "range", min: "0", max: String(STEPS), step: "1", oninput: () => this.slide() });
    this.exact = el("input", { type: "number", min: "0", step: "any", inputmode: "decimal", class: "circuit-exact", onchange: () => this.type() });
    this.hide = el("input", { type: "checkbox", onchange: () => viewer.change({ hide: this.hide.checked }) });
    this.search = el("input", { type: "search", placeholder: "9.9 or a9.h9", autocomplete: "off", spellcheck: "false", oninput: () => this.find() });
    this.found = el("span", { class: "circuit-quiet" });
    this.select = el("select", { onchange: () => viewer.change({ roles: this.select.value, role: "" }) });
    this.toggles = el("span", { class: "circuit-toggles" });
    this.sides = el("span", { class: "circuit-toggles" });
    this.build();
  }

  build() {
    const list = el("datalist", { id: uniqueId("circuit-heads") });
    this.suggestions = list;
    this.search.setAttribute("list", list.id);
    this.unit = el("span", { class: "circuit-quiet" });
    this.rolesField = labelled("roles of", this.select);
    this.counts = el("strong", { class: "circuit-counts" });
    this.counted = el("span");
    this.sideField = el("fieldset", {}, el("legend", {}, "edges in"), this.sides);
    // On a phone the picture comes first, and these when they are asked for.
    this.more = el(
      "details",
      { class: "circuit-more", open: !matchMedia(PHONE).matches },
      el("summary", {}, "Filters, search, link"),
      el("div", { class: "circuit-controls" },
        el("fieldset", {}, el("legend", {}, "inputs"), this.toggles),
        this.sideField,
        el("span", { class: "circuit-field" }, el("label", { class: "circuit-check" }, this.hide, "hide unconnected")),
        el("span", { class: "circuit-field" }, labelled("find", this.search), list, this.found),
        this.rolesField,
        button("Copy link to this view", () => this.link(), { class: "circuit-link" })),
    );
    this.element = el(
      "div",
      { class: "circuit-controls" },
      el("div", { class: "circuit-thin" },
        labelled("least score shown", this.slider, { class: "circuit-field circuit-wide" }),
        labelled("exactly", this.exact), this.unit),
      this.more,
    );
    this.linked = el("p", { class: "circuit-linked", hidden: true });
    this.notes = el("div", { class: "circuit-notes" }, el("p", {}, this.counts, this.counted), this.linked);
    this.legend = el("div", { class: "circuit-legend" });
    this.zoom = el("div", { class: "circuit-zoom" },
      button("+", () => this.viewer.picture.zoomBy(ZOOM), { "aria-label": "zoom in" }),
      button("\u2212", () => this.viewer.picture.zoomBy(1 / ZOOM), { "aria-label": "zoom out" }),
      button("whole", () => this.whole(), { "aria-label": "show the whole circuit" }));
    this.files = el("p", { class: "circuit-files" });
    replace(this.files, this.downloads.length ? el("span", {}, "Download:") : null, this.downloads.map((item) => this.download(item)));
  }

  download({ label, href, make }) {
    if (href) return el("a", { href, download: "" }, label);
    return button(label, () => this.viewer.files()[make]());
  }

  goToSearch() {
    this.more.open = true;
    this.search.focus();
    this.search.select();
  }

  whole() {
    const { viewer } = this;
    viewer.state = { ...viewer.state, zoom: null, x: null, y: null };
    viewer.picture.goTo(viewer.state);
    viewer.change({}, { still: true });
  }

  slide() {
    const range = scoreRange(this.viewer.view);
    if (!range) return;
    const share = Number(this.slider.value) / STEPS;
    const threshold = atShare(range, share);
    // The end is exact: rounding it down would show more than the largest score alone.
    const rounded = threshold === null || share >= 1 ? threshold : Number(threshold.toPrecision(4));
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.viewer.change({ threshold: rounded }));
  }

  type() {
    const value = Number(this.exact.value);
    this.viewer.change({ threshold: this.exact.value.trim() && value > 0 ? value : null });
  }

  find() {
    const text = this.search.value;
    const found = this.viewer.search(text);
    this.found.textContent = !text.trim() || found === 1 ? "" : found ? `${count(found)} begin so` : "not in this circuit";
  }

  link() {
    const { viewer } = this;
    viewer.tell();
    const address = location.href;
    const field = el("input", { type: "text", readonly: "", class: "circuit-address", "aria-label": "link to this view", value: address });
    const say = (text) => {
      replace(this.linked, `${text} `, field);
      this.linked.hidden = false;
      field.select();
      viewer.say(text);
    };
    const failed = () => say("Copy this link:");
    if (!navigator.clipboard) failed();
    else navigator.clipboard.writeText(address).then(() => say("Link copied:"), failed);
  }

  show(view, state, seen) {
    this.showThreshold(view, state);
    this.showCounts(view, state, seen);
    this.hide.checked = state.hide;
    if (document.activeElement !== this.search) this.search.value = state.search;
    if (!state.search) this.found.textContent = "";
    if (this.shownView !== view) this.showHeads(view);
    this.shownView = view;
    this.sideField.hidden = !view.run.left;
    this.check(this.toggles, "ports", PORTS, (port) => PORT_LABELS[port]);
    if (view.run.left) this.check(this.sides, "sides", SIDES, (side) => this.sideName(side));
    this.showLegend(view, state);
  }

  sideName(side) {
    const { run } = this.viewer.view;
    return { both: "both", left: `only ${run.left}`, right: `only ${run.right}` }[side];
  }

  check(place, key, names, label) {
    const chosen = this.viewer.state[key];
    if (place.childElementCount !== names.length) {
      replace(place, names.map((name) => {
        const box = el("input", { type: "checkbox", value: name, onchange: () => this.toggle(key, name, box.checked) });
        return el("label", { class: "circuit-check" }, box, el("span", { class: `circuit-key stroke-${name}`, "aria-hidden": "true" }), label(name));
      }));
    }
    for (const box of place.querySelectorAll("input")) box.checked = chosen.includes(box.value);
  }

  toggle(key, name, on) {
    const chosen = this.viewer.state[key].filter((other) => other !== name);
    this.viewer.change({ [key]: on ? [...chosen, name] : chosen });
  }

  showThreshold(view, state) {
    const range = scoreRange(view);
    this.slider.disabled = this.exact.disabled = !range;
    this.unit.textContent = range ? view.run.unit || "" : "no scores are known";
    if (!range) return;
    const said = state.threshold === null ? "all edges" : `${shortNumber(state.threshold)} ${view.run.unit || ""}`;
    this.slider.value = String(Math.round(shareOf(range, state.threshold) * STEPS));
    this.slider.setAttribute("aria-valuetext", said);
    this.exact.placeholder = shortNumber(range.low);
    if (document.activeElement !== this.exact || Number(this.exact.value) !== state.threshold) {
      this.exact.value = state.threshold === null ? "" : String(state.threshold);
    }
  }

  showCounts(view, state, seen) {
    this.counts.textContent = `${count(seen.count)} of ${count(view.total)} ${whose(view)} shown`;
    const parts = [];
    if (view.graph === null) parts.push("this run has not begun");
    else if (view.run.edges) parts.push(`${count(view.run.edges)} edges in the graph`);
    if (view.shown < view.total) parts.push(`only the ${count(view.shown)} with the largest scores are in this page`);
    if (seen.loose) parts.push(`${count(seen.loose)} not connected from embedding to logits, ${state.hide ? "hidden" : "faint"}`);
    if (state.threshold !== null) parts.push("thinned by the scores stored during the search: a view, not a new search at this threshold");
    this.counted.textContent = parts.length ? `; ${parts.join("; ")}.` : ".";
  }

  showHeads(view) {
    replace(this.suggestions, view.nodes.filter((node) => node.layer !== null).map((node) => el("option", { value: node.kind === "mlp" ? node.id : node.label })));
    const names = Object.keys(view.roles);
    this.rolesField.hidden = !names.length;
    replace(this.select, el("option", { value: "" }, "none"), names.map((name) => el("option", { value: name }, view.role_models?.[name] ? `${name} (${view.role_models[name]})` : name)));
  }

  showLegend(view, state) {
    this.select.value = state.roles;
    const roles = this.viewer.roles;
    const here = new Set(view.nodes.map((node) => node.id));
    const parts = roles
      ? Object.keys(roles).map((name) =>
          button("", () => this.viewer.change({ role: state.role === name ? "" : name }), { class: "circuit-role", "aria-pressed": String(state.role === name) }))
      : [];
    Object.entries(roles ?? {}).forEach(([name, ids], i) => {
      parts[i].append(el("span", { class: `circuit-swatch role-${i % 8}`, "aria-hidden": "true" }), `${name} (${ids.filter((id) => here.has(id)).length} of ${ids.length})`);
    });
    const scored = scoreRange(view) ? "wider: larger score" : null;
    const strokes = view.run.left ? SIDES.map((side) => [side, this.sideName(side)]) : [["q", "q enters on the left"], ["k", "k in the middle"], ["v", "v on the right"], ["in", "MLP, logits"]];
    const focus = this.legend.contains(document.activeElement) ? document.activeElement.textContent : null;
    replace(this.legend,
      el("p", {}, strokes.map(([name, text]) => el("span", { class: "circuit-item" }, el("span", { class: `circuit-key stroke-${name}`, "aria-hidden": "true" }), text)), scored ? el("span", { class: "circuit-item" }, scored) : null),
      parts.length ? el("p", {}, el("span", {}, `Roles in ${view.role_models?.[state.roles] ?? state.roles}: `), parts) : null);
    if (focus !== null) [...this.legend.querySelectorAll("button")].find((item) => item.textContent === focus)?.focus();
  }
}
