// Questions and notes in the browser's own modal dialog, which keeps the focus inside and gives it back.

import { post, patch, remove, part } from "./api.js";
import { button, fill, h, notice, unique } from "./dom.js";
import { short } from "./format.js";

// Shows a dialog; `work` runs on its main button and may fail, which is then said in the dialog.
// Resolves to what `work` gave, or to null where the person thought better of it.
function ask({ title, content, action, danger = false, work }) {
  const id = unique("dialog");
  const problem = h("div");
  return new Promise((resolve) => {
    let result = null;
    const main = h(danger ? "button.danger" : "button.primary", { type: "submit" }, action);
    const dialog = h("dialog", { "aria-labelledby": id, onclose: () => {
      dialog.remove();
      resolve(result);
    } },
    h("form", { onsubmit: async (event) => {
      event.preventDefault();
      main.disabled = true;
      try {
        result = await work();
        dialog.close();
      } catch (error) {
        fill(problem, notice("error", error.message));
        main.disabled = false;
      }
    } },
    h("h2", { id }, title), content, problem,
    h("div.actions", null, main, button("Back", () => dialog.close()))));
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("textarea") ?? main).focus();
  });
}

export function editNote(run) {
  const field = h("textarea", { rows: "4", maxlength: "2000", id: unique("note") });
  field.value = run.note ?? "";
  return ask({
    title: `Note of run ${short(run.id)}`,
    content: h("div.field", null, h("label", { for: field.id }, "Note"), field),
    action: "Save",
    work: () => patch(`runs/${part(run.id)}`, { note: field.value }),
  });
}

export function cancelRun(run) {
  return ask({
    title: `Cancel run ${short(run.id)}?`,
    content: h("p", null, run.status === "queued"
      ? "It has not begun. It can be submitted again with Retry."
      : "It stops after the receiver at hand. Its decisions stay, and Retry goes on from there."),
    action: "Cancel the run",
    danger: true,
    work: () => post(`runs/${part(run.id)}/cancel`),
  });
}

export function deleteRun(run) {
  return ask({
    title: `Delete run ${short(run.id)}?`,
    content: h("p", null, `${run.model}, ${run.task}, tau ${run.tau}: its decisions, circuit and evaluations are lost for good.`),
    action: "Delete",
    danger: true,
    work: async () => (await remove(`runs/${part(run.id)}`)) ?? true,
  });
}

export function retryRun(run) {
  return post(`runs/${part(run.id)}/retry`);
}

export function cancelSweep(sweep) {
  return ask({
    title: `Cancel sweep ${short(sweep.id)}?`,
    content: h("p", null, "Every run of it that has not ended is cancelled. What is done stays."),
    action: "Cancel the sweep",
    danger: true,
    work: () => post(`sweeps/${part(sweep.id)}/cancel`),
  });
}

export function deleteSweep(sweep) {
  return ask({
    title: `Delete sweep ${short(sweep.id)}?`,
    content: h("p", null, "The list of its runs is deleted; the runs themselves stay."),
    action: "Delete",
    danger: true,
    work: async () => (await remove(`sweeps/${part(sweep.id)}`)) ?? true,
  });
}
