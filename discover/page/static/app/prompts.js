// The first prompts of a run, read from the very file that reproduces them.

import { address, part, text } from "./api.js";
import { fill, h, notice, table } from "./dom.js";
import { plural } from "./format.js";

const MOST = 20;

export function promptsPanel(run) {
  const content = h("div");
  let asked = false;
  const load = async () => {
    if (!details.open || asked) return;
    asked = true;
    fill(content, h("p.hint", null, "Loading ..."));
    try {
      draw(content, run, await text(`runs/${part(run.id)}/export/prompts`));
    } catch (error) {
      asked = false;
      fill(content, notice("error", error.message));
    }
  };
  const details = h("details", { ontoggle: load }, h("summary", null, "Prompts"), content);
  return details;
}

function draw(element, run, jsonl) {
  const rows = jsonl.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  const words = (value) => (Array.isArray(value) ? value.map(word).join(", ") : word(value));
  fill(element,
    h("p.hint", null, `${plural(rows.length, "pair")}${rows.length > MOST ? `, of which the first ${MOST}` : ""}; `,
      h("a", { href: address(`runs/${part(run.id)}/export/prompts`).href, download: "" }, "download all")),
    table("Prompts", ["Clean", "Corrupted", "Correct", "Incorrect"],
      rows.slice(0, MOST).map((row) => [side(row, "clean"), side(row, "corrupted"), words(row.correct ?? row.correct_tokens), words(row.incorrect ?? row.incorrect_tokens)]), "dense"));
}

// The prompt's text, or its tokens where it has none.
function side(row, name) {
  return row[name] ?? (row[`${name}_tokens`] ?? []).join(" ");
}

// Leading spaces belong to the token, so they are shown.
function word(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value.replace(/^ /, "\u2423") : JSON.stringify(value);
}
