// The page of the single file: its data is inside it, and nothing is fetched.

import { mountCircuit, OWN_DOWNLOADS, stateFromQuery, stateToQuery } from "./circuit.js";
import { button, count, el, replace, shortNumber } from "./dom.js";

const THEMES = ["auto", "light", "dark"];

function heading(run) {
  const unit = run.unit ? ` ${run.unit}` : "";
  const said = [];
  if (run.metric) said.push(`${run.metric} damage`);
  if (run.ablation) said.push(`${run.ablation} ablation`);
  if (run.tau !== undefined && run.tau !== null) said.push(`tau ${shortNumber(run.tau)}${unit}`);
  if (run.damage !== undefined && run.damage !== null) said.push(`damage ${shortNumber(run.damage)}${unit}`);
  if (run.kept !== undefined && run.kept !== null && run.edges) said.push(`${count(run.kept)} of ${count(run.edges)} edges kept`);
  return said.join(" \u00b7 ");
}

function plainText(value) {
  if (value === null || value === undefined || value === "" || value === false) return null;
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.map(plainText).join(", ");
  return Object.entries(value).map(([key, item]) => `${key} ${plainText(item)}`).join(", ");
}

function facts(run) {
  const rows = Object.entries(run).map(([key, value]) => [key.replaceAll("_", " "), plainText(value)]);
  return rows.filter(([, value]) => value !== null).map(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]);
}

function themeSwitch() {
  let at = 0;
  const turn = button("Theme: auto", () => {
    at = (at + 1) % THEMES.length;
    turn.textContent = `Theme: ${THEMES[at]}`;
    if (at) document.documentElement.dataset.theme = THEMES[at];
    else delete document.documentElement.dataset.theme;
  });
  return turn;
}

const view = JSON.parse(document.getElementById("view").textContent);
const { run } = view;
const about = document.getElementById("about");
replace(
  document.getElementById("head"),
  el("div", {}, el("h1", {}, [run.title ?? run.task, run.model].filter(Boolean).join(" in ") || "A circuit"), el("p", {}, heading(run)), run.note ? el("p", { class: "note" }, run.note) : null),
  themeSwitch(),
);
about.append(el("dl", {}, facts(run)));

const mounted = mountCircuit(document.getElementById("viewer"), view, {
  state: stateFromQuery(location.hash.slice(1)),
  onState: (state) => {
    const query = stateToQuery(state);
    history.replaceState(null, "", query ? `#${query}` : location.pathname + location.search);
  },
  downloads: OWN_DOWNLOADS,
});
addEventListener("hashchange", () => mounted.setState(stateFromQuery(location.hash.slice(1))));
