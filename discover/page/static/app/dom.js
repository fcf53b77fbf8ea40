// Elements without markup: whatever a user wrote goes in as text and is never parsed.

const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "open", "indeterminate"]);

// h("a.big", {href: "#/runs", onclick: f}, "text", child, [more], null): one element.
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes ?? {})) set(element, key, value);
  element.append(...flat(children));
  return element;
}

export function set(element, key, value) {
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (PROPERTIES.has(key)) element[key] = value;
  else if (value === null || value === undefined || value === false) element.removeAttribute(key);
  else element.setAttribute(key, value === true ? "" : String(value));
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

// Replaces what an element holds.
export function fill(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

// Sets text only where it differs, so that a selection in it and a screen reader are left alone.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  return element;
}

// Makes `parent`'s children those elements in that order, moving none that is in its place.
export function arrange(parent, elements) {
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const element of elements) {
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
}

let count = 0;

// An id that no other element has.
export function unique(stem = "e") {
  count += 1;
  return `${stem}-${count}`;
}

// A table with a caption that only a screen reader gets. Cells are text or elements; the roles are
// said outright because the narrow layout shows rows as blocks, and browsers then forget them.
export function table(caption, columns, rows, classes = "") {
  const names = columns.map((column) => (typeof column === "string" ? { name: column } : column));
  return h(
    "table",
    { class: `cards ${classes}`, role: "table" },
    h("caption.hidden-text", null, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, names.map(headCell))),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.map((cells) => h("tr", { role: "row" }, cells.map((cell, i) => bodyCell(names[i], cell)))),
    ),
  );
}

function headCell(column) {
  return h("th", { role: "columnheader", scope: "col", class: column.number && "number" }, column.name);
}

export function bodyCell(column, content) {
  return h(
    "td",
    { role: "cell", class: column.number ? "number" : null, "data-name": column.name || null },
    content,
  );
}

// A terms-and-descriptions list from [name, content] pairs; those without content are left out.
export function facts(pairs, classes = "") {
  const shown = pairs.filter(([, content]) => content !== null && content !== undefined && content !== "");
  return h(
    "dl",
    { class: `facts ${classes}` },
    shown.map(([name, content]) => h("div", null, h("dt", null, name), h("dd", null, content))),
  );
}

export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

export function notice(kind, ...content) {
  return h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : null }, content);
}
