// Numbers, times and names as a person reads them.

// JSON has no infinities: the API writes them as strings.
export function number(value) {
  if (value === null || value === undefined) return null;
  return typeof value === "number" ? value : Number(value);
}

export function whole(value) {
  return value === null || value === undefined ? "" : Number(value).toLocaleString("en-GB");
}

// Four significant digits, without needless zeros.
export function figure(value, digits = 4) {
  const x = number(value);
  if (x === null) return "";
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "infinity" : "-infinity";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size < 1e-4 || size >= 1e6) return x.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(x.toPrecision(digits)));
}

export function damage(run) {
  return run.damage === null || run.damage === undefined ? "" : `${figure(run.damage)} ${run.unit ?? ""}`.trim();
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function age(time, now = Date.now()) {
  if (!time) return "";
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

export function moment(time) {
  return time ? new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "";
}

export function short(id) {
  return id.slice(0, 8);
}

// "mean over the same role", "resample".
export function ablation(run) {
  return run.ablation === "mean" ? `mean by ${run.mean_by ?? "position"}` : run.ablation;
}

// Where the prompts came from: a task, or a file without the path and the hash before its name.
export function source(name) {
  return (name ?? "").replace(/^sha256:[0-9a-f]{64}\//, "").replace(/^.*[/\\]/, "");
}

// An error's text without the hashes of stored files, which say nothing to anyone.
export function readable(text) {
  return (text ?? "").replaceAll(/sha256:[0-9a-f]{64}\//g, "");
}

// A model's name; of a directory its last part.
export function model(name) {
  return /^([/\\]|[A-Za-z]:[/\\])/.test(name ?? "") ? source(name.replace(/[/\\]+$/, "")) : (name ?? "");
}

export function setting(value) {
  if (value === null || value === undefined || value === "") return "none";
  if (typeof value === "object") return Object.keys(value).length ? JSON.stringify(value) : "none";
  return typeof value === "number" && !Number.isInteger(value) ? figure(value, 6) : String(value);
}

export const ACTIVE = new Set(["queued", "running"]);

// A run that someone began by hand and that stands as running has no worker to be asked: it may be
// long dead, and can only be deleted. The server refuses where it is not.
export function cancellable(run) {
  return !run.cancelling && (run.status === "queued" || (run.status === "running" && Boolean(run.worker)));
}

export function plural(count, one, many = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}
