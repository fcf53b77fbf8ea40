// The one place that talks to the server. Addresses are relative, so any prefix will do.

const BASE = new URL("api/", document.baseURI);

export class ApiError extends Error {
  constructor(status, kind, message, fields) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.kind = kind;
    this.fields = fields ?? [];
  }
}

export function address(path, query) {
  const url = new URL(path, BASE);
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(key, value);
  }
  return url;
}

// An id or a name in a path.
export const part = encodeURIComponent;

async function call(method, path, { query, body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address(path, query), {
      method,
      headers,
      signal,
      credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "Unreachable", "The server does not answer. Is discover serve still running?");
  }
  if (!answer.ok) throw await problem(answer);
  return answer.status === 204 ? null : answer.json();
}

async function problem(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // A proxy's own page, or nothing at all: the status is what there is to say.
  }
  const message = error.message ?? `The server answered ${answer.status} ${answer.statusText}`.trim();
  if (answer.status === 401) document.dispatchEvent(new CustomEvent("discover:login", { detail: message }));
  return new ApiError(answer.status, error.kind ?? "", message, error.fields);
}

export const get = (path, query, signal) => call("GET", path, { query, signal });
export const post = (path, body) => call("POST", path, { body: body ?? {} });
export const patch = (path, body) => call("PATCH", path, { body });
export const remove = (path) => call("DELETE", path);

// Text that is no JSON, such as the prompts of a run.
export async function text(path) {
  const answer = await fetch(address(path), { credentials: "same-origin" });
  if (!answer.ok) throw await problem(answer);
  return answer.text();
}

const once = new Map();

// What does not change while the page is open is asked for once.
export function known(path) {
  if (!once.has(path)) {
    once.set(path, get(path).catch((error) => {
      once.delete(path);
      throw error;
    }));
  }
  return once.get(path);
}

export function forget() {
  once.clear();
}

// Calls `work` now and every `seconds` while the page is seen; never twice at once. Returns how to
// stop it, and how to have it called at once.
export function poll(work, seconds) {
  let timer = null;
  let busy = false;
  let again = false;
  let stopped = false;
  async function turn() {
    clearTimeout(timer);
    if (stopped) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      if (!document.hidden) await work();
    } finally {
      busy = false;
      if (!stopped) timer = setTimeout(turn, again ? 0 : seconds * 1000);
      again = false;
    }
  }
  const seen = () => document.hidden || turn();
  document.addEventListener("visibilitychange", seen);
  turn();
  return {
    now: turn,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    },
  };
}

// A run's progress as it happens, until it has ended. The browser takes a dropped stream up again
// by itself; where it gives up (the server was gone), this does, ever more patiently.
export function follow(id, { onRun, onEnd, onState }) {
  let source = null;
  let timer = null;
  let pause = 1;
  let stopped = false;
  function open() {
    source = new EventSource(address(`runs/${part(id)}/events`, { decisions: "false" }));
    source.addEventListener("open", () => {
      pause = 1;
      onState("live");
    });
    source.addEventListener("run", (event) => onRun(JSON.parse(event.data)));
    source.addEventListener("end", (event) => {
      stop();
      onEnd(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (stopped) return;
      onState("waiting");
      if (source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, pause * 1000);
      pause = Math.min(30, pause * 2);
    });
  }
  function stop() {
    stopped = true;
    clearTimeout(timer);
    source?.close();
  }
  open();
  return stop;
}
