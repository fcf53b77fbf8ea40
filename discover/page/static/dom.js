// Building elements without ever reading text as HTML: every string becomes a text node.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

export function button(text, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

export function replace(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

// The numbers of the data: JSON has no infinities, so they come as strings.
export function number(value) {
  if (value === "Infinity") return Infinity;
  if (value === "-Infinity") return -Infinity;
  return typeof value === "number" ? value : NaN;
}

export function shortNumber(value) {
  const n = number(value);
  if (Number.isNaN(n)) return "not known";
  if (!Number.isFinite(n)) return n > 0 ? "infinite" : "minus infinite";
  if (n === 0) return "0";
  const size = Math.abs(n);
  if (size >= 1e-3 && size < 1e6) return String(Number(n.toPrecision(4)));
  return n.toExponential(2);
}

export function count(value) {
  return Number(value).toLocaleString("en-GB");
}

let calls = 0;
export function uniqueId(prefix) {
  calls += 1;
  return `${prefix}-${calls}`;
}
