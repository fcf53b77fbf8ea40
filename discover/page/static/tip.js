// What is under the pointer, beside it.

import { el, replace } from "./dom.js";
import { describeNode, edgeFacts, factList } from "./panel.js";

export class Tip {
  constructor(stage) {
    this.stage = stage;
    this.element = el("div", { class: "circuit-tip", role: "tooltip", hidden: true });
    stage.append(this.element);
  }

  edge(edge, view, position) {
    this.put([el("b", {}, `${edge.sender} \u2192 ${edge.receiver}`), factList(edgeFacts(edge, view))], position);
  }

  node(node, view, roles, position) {
    if (!node) return;
    const held = Object.entries(roles ?? {}).filter(([, ids]) => ids.includes(node.id)).map(([name]) => name);
    this.put([el("b", {}, node.label), el("p", {}, describeNode(node, view)), held.length ? el("p", {}, held.join(", ")) : null], position);
  }

  put(parts, { x, y }) {
    replace(this.element, parts);
    this.element.hidden = false;
    const { clientWidth, clientHeight } = this.stage;
    const { offsetWidth, offsetHeight } = this.element;
    const left = x + 14 + offsetWidth > clientWidth ? x - 14 - offsetWidth : x + 14;
    this.element.style.left = `${Math.max(4, Math.min(left, clientWidth - offsetWidth - 4))}px`;
    this.element.style.top = `${Math.max(4, Math.min(y + 14, clientHeight - offsetHeight - 4))}px`;
  }

  hide() {
    this.element.hidden = true;
  }
}
