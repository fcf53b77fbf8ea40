// Small pieces that several views show: a status, a progress bar, whether anyone is at work.

import { get } from "./api.js";
import { fill, h, say, set } from "./dom.js";
import { ACTIVE, plural, whole } from "./format.js";

export const STATUSES = ["queued", "running", "done", "failed", "interrupted", "cancelled"];

// The word, in a colour and with a mark of its own: colour alone tells nobody anything.
export function status() {
  const element = h("span.status");
  return {
    element,
    update(run) {
      const stopping = run.cancelling && ACTIVE.has(run.status);
      element.dataset.status = run.status;
      say(element, stopping ? "stopping" : run.status);
    },
  };
}

export function progress(name) {
  const bar = h("progress", { "aria-label": name });
  const text = h("span.progress-text");
  const element = h("span.progress", null, bar, text);
  return {
    element,
    update(run) {
      const known = run.edges > 0;
      element.hidden = !known;
      if (!known) return;
      bar.max = run.edges;
      bar.value = run.decided;
      bar.hidden = run.status === "done";
      say(text, run.status === "done"
        ? `${whole(run.edges)} edges`
        : `${Math.floor((100 * run.decided) / run.edges)}% of ${whole(run.edges)}`);
    },
  };
}

export async function workers() {
  const answer = await get("workers");
  return answer.items ?? answer;
}

// A line that is there only while runs wait and nobody is at work.
export function workerLine() {
  const element = h("div.notice.warning", { role: "status", hidden: true });
  return {
    element,
    update(list, waiting) {
      const alone = waiting > 0 && !list.some((worker) => worker.alive);
      if (alone === !element.hidden && element.dataset.waiting === String(waiting)) return;
      element.hidden = !alone;
      element.dataset.waiting = waiting;
      fill(element, `No worker is alive, and ${plural(waiting, "run waits", "runs wait")} for one. Start one on any machine that reaches this database: `,
        h("code", null, "discover worker"));
    },
  };
}

export function pager(onOffset) {
  const back = h("button", { type: "button", onclick: () => onOffset(Math.max(0, state.offset - state.limit)) }, "Previous");
  const next = h("button", { type: "button", onclick: () => onOffset(state.offset + state.limit) }, "Next");
  const text = h("span");
  const element = h("nav.pager", { "aria-label": "Pages of the list" }, back, text, next);
  const state = { offset: 0, limit: 50 };
  return {
    element,
    update({ total, offset, limit }) {
      Object.assign(state, { offset, limit });
      element.hidden = total <= limit && offset === 0;
      back.disabled = offset === 0;
      next.disabled = offset + limit >= total;
      say(text, total ? `${whole(Math.min(offset + 1, total))} to ${whole(Math.min(offset + limit, total))} of ${whole(total)}` : "");
    },
  };
}

// A labelled choice; `options` are [value, text]. The choice survives new options.
export function select(name, options, value, onchange) {
  const element = h("select", { onchange: () => onchange(element.value) });
  const field = h("label.choice", null, h("span", null, name), element);
  const update = (all, now) => {
    const same = element.options.length === all.length &&
      all.every(([each, text], i) => element.options[i].value === each && element.options[i].text === text);
    if (!same) fill(element, all.map(([each, text]) => h("option", { value: each }, text)));
    if (element.value !== now) element.value = now;
  };
  update(options, value);
  return { element: field, update };
}

export function labelled(element, name) {
  set(element, "aria-label", name);
  return element;
}
