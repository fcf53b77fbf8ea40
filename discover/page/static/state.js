// What of a view a link restores: a plain object, and the same as a query.

export const PORTS = ["q", "k", "v", "in"];
export const SIDES = ["both", "left", "right"];

export const DEFAULTS = Object.freeze({
  threshold: null, // the least score shown; null shows all
  hide: false, // edges that are not connected from embedding to logits: hidden, not faded
  ports: PORTS,
  sides: SIDES,
  roles: "", // a known circuit's name
  role: "", // one role of it
  node: "",
  edge: "", // sender->receiver
  search: "",
  zoom: null, // with x and y, the place in the middle of the picture; null fits the whole
  x: null,
  y: null,
});

function finite(value) {
  const n = typeof value === "string" && value.trim() === "" ? NaN : Number(value);
  return value === null || value === undefined || !Number.isFinite(n) ? null : n;
}

function members(given, allowed) {
  const names = typeof given === "string" ? given.split(",") : given;
  return Array.isArray(names) ? allowed.filter((name) => names.includes(name)) : [...allowed];
}

function text(value) {
  return typeof value === "string" ? value.slice(0, 200) : "";
}

// Whatever a link or a caller gives becomes a whole and valid state.
export function cleanState(given) {
  const raw = given && typeof given === "object" ? given : {};
  const threshold = finite(raw.threshold);
  const zoom = finite(raw.zoom);
  const [x, y] = [finite(raw.x), finite(raw.y)];
  const placed = zoom !== null && zoom > 0 && x !== null && y !== null;
  return {
    threshold: threshold !== null && threshold > 0 ? threshold : null,
    hide: raw.hide === true || raw.hide === "1",
    ports: members(raw.ports, PORTS),
    sides: members(raw.sides, SIDES),
    roles: text(raw.roles),
    role: text(raw.role),
    node: text(raw.node),
    edge: text(raw.edge),
    search: text(raw.search),
    zoom: placed ? zoom : null,
    x: placed ? x : null,
    y: placed ? y : null,
  };
}

export function stateToQuery(state) {
  const clean = cleanState(state);
  const query = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    const value = clean[name];
    if (Array.isArray(usual)) {
      if (value.length !== usual.length) query.set(name, value.join(","));
    } else if (value !== usual) {
      query.set(name, value === true ? "1" : String(value));
    }
  }
  return query.toString();
}

export function stateFromQuery(query) {
  return cleanState(Object.fromEntries(new URLSearchParams(query)));
}
