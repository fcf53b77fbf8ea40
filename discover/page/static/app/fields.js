// Labelled fields of a form that can each say what is wrong with it.

import { fill, h, notice, set, unique } from "./dom.js";

export class Fields {
  constructor() {
    this.all = new Map();
    // Which field stands in for one of the API's names just now.
    this.standIn = (name) => name;
    this.summary = h("div", { tabindex: "-1" });
  }

  // One field under the name by which the API calls it.
  add(name, label, input, hint = "") {
    const id = `field-${name.replaceAll(/[^a-z0-9]+/gi, "-")}`;
    const problem = h("p.problem", { id: `${id}-problem`, hidden: true });
    const help = h("div.hint", { id: `${id}-hint`, hidden: !hint }, hint);
    set(input, "id", id);
    set(input, "aria-describedby", `${id}-problem ${id}-hint`);
    const element = h("div.field", { "data-field": name },
      input.type === "checkbox" ? h("label.tick", null, input, ` ${label}`) : [h("label", { for: id }, label), input],
      problem, help);
    const field = { name, label, input, element, problem, help };
    input.addEventListener("input", () => this.clear(field));
    this.all.set(name, field);
    return field;
  }

  drop(name) {
    this.all.delete(name);
  }

  hint(field, ...content) {
    fill(field.help, content);
    field.help.hidden = !content.flat().filter(Boolean).length;
  }

  clear(field) {
    field.problem.hidden = true;
    fill(field.problem);
    set(field.input, "aria-invalid", null);
  }

  clearAll() {
    for (const field of this.all.values()) this.clear(field);
    fill(this.summary);
  }

  // Shows each error at its field, all of them above the form, and goes to the first.
  show(error) {
    this.clearAll();
    const entries = error.fields.map((each) => ({ field: this.find(each.field), message: each.message, name: each.field }));
    for (const { field, message } of entries) if (field) this.blame(field, message);
    const blamed = entries.filter((each) => each.field);
    const lost = entries.filter((each) => !each.field).map((each) => `${each.name}: ${each.message}`);
    fill(this.summary, notice("error", h("strong", null, "Not submitted. "), blamed.length ? h("ul", null, blamed.map(link)) : error.message,
      lost.length ? h("ul", null, lost.map((text) => h("li", null, text))) : null));
    const inOrder = [...this.all.values()].find((field) => !field.problem.hidden);
    reveal(inOrder?.input ?? this.summary);
  }

  blame(field, message) {
    const before = field.problem.textContent;
    field.problem.textContent = before ? `${before} ${message}` : message;
    field.problem.hidden = false;
    set(field.input, "aria-invalid", "true");
  }

  // `task_options.corruption`, `body.tau` or `taus.3`: the longest known part of it.
  find(path) {
    const words = String(path).replace(/^body\./, "").split(".");
    for (let end = words.length; end > 0; end -= 1) {
      const field = this.all.get(this.standIn(words.slice(0, end).join(".")));
      if (field) return field;
    }
    return null;
  }
}

function link({ field, message }) {
  return h("li", null, h("a", { href: `#${field.input.id}`, onclick: (event) => {
    event.preventDefault();
    reveal(field.input);
  } }, field.label), `: ${message}`);
}

// A field may lie in a closed part of the form.
function reveal(input) {
  const closed = input.closest("details");
  if (closed) closed.open = true;
  input.focus();
  input.scrollIntoView({ block: "center" });
}

export function choices(names, value) {
  const element = h("select", null, names.map((each) => {
    const [name, text, disabled] = Array.isArray(each) ? each : [each, each];
    return h("option", { value: name, disabled: Boolean(disabled) }, text);
  }));
  if (value !== undefined && value !== null) element.value = value;
  return element;
}

export function typed(kind, value = "", attributes = {}) {
  const element = h("input", { type: kind, autocomplete: "off", ...attributes });
  if (kind !== "file") element.value = value ?? "";
  return element;
}

// Two or three ways of doing something, as radio buttons; `onchange` is told which.
export function radios(legend, options, value, onchange) {
  const name = unique("radio");
  const inputs = options.map(([each, text]) => {
    const input = h("input", { type: "radio", name, value: each, onchange: () => onchange(each) });
    input.checked = each === value;
    return h("label.tick", null, input, ` ${text}`);
  });
  return h("fieldset.radios", null, h("legend", null, legend), inputs);
}
