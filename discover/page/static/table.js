// The edges as a table: all that the picture says, for those who read or hear it.

import { button, count, el, replace, shortNumber } from "./dom.js";
import { bySize } from "./panel.js";
import { edgeName } from "./thin.js";

const PAGE = 200;

export class EdgeTable {
  constructor(actions) {
    this.actions = actions;
    this.caption = el("caption");
    this.head = el("tr");
    this.body = el("tbody");
    this.more = el("p");
    this.element = el(
      "details",
      { class: "circuit-table", ontoggle: () => this.draw() },
      el("summary", {}, "Edges as a table"),
      el("div", { class: "circuit-scroll", tabindex: "0", role: "region", "aria-label": "Edges as a table" },
        el("table", {}, this.caption, el("thead", {}, this.head), this.body)),
      this.more,
    );
  }

  show(view, seen) {
    [this.view, this.seen, this.length] = [view, seen, PAGE];
    this.draw();
  }

  draw() {
    // Thousands of rows are made only for one who opens the table.
    if (!this.element.open || !this.view) return;
    const { view, seen } = this;
    const edges = bySize(view.edges.map((edge, i) => ({ ...edge, joined: seen.connected[i] })).filter((_, i) => seen.shown[i]));
    const unit = view.run.unit ? ` (${view.run.unit})` : "";
    const titles = ["rank", "sender", "receiver", `score${unit}`, "damage before", "damage after", "step", "connected"];
    if (view.run.left) titles.push("in");
    this.caption.textContent = `${count(edges.length)} edges, the largest score first`;
    replace(this.head, titles.map((title) => el("th", { scope: "col" }, title)));
    const number = (value) => el("td", { class: "circuit-number" }, value === null ? "" : shortNumber(value));
    const rows = edges.slice(0, this.length).map((edge) => {
      const id = edgeName(edge);
      return el(
        "tr",
        {},
        el("td", { class: "circuit-number" }, edge.rank === null ? "" : count(edge.rank)),
        el("th", { scope: "row" }, button(edge.sender, () => this.actions.edge(id), { "aria-label": `pick ${id}` })),
        el("td", {}, edge.receiver),
        number(edge.score), number(edge.before), number(edge.after),
        el("td", { class: "circuit-number" }, edge.step === null ? "" : count(edge.step)),
        el("td", {}, edge.joined ? "yes" : "no"),
        view.run.left ? el("td", {}, { both: "both", left: view.run.left, right: view.run.right }[edge.side]) : null,
      );
    });
    replace(this.body, rows);
    const left = edges.length - rows.length;
    replace(this.more, left > 0 ? button(`${count(Math.min(PAGE, left))} more of ${count(left)}`, () => {
      this.length += PAGE;
      this.draw();
    }) : null);
  }
}
