// A circuit view's state in an address, and back without loss.

const OWN = ["layout"];

export function readState(query) {
  const state = {};
  for (const [key, text] of query) {
    if (OWN.includes(key)) continue;
    try {
      state[key] = JSON.parse(text);
    } catch {
      state[key] = text;
    }
  }
  return state;
}

// Text goes in as it is unless it would be read back as a number or the like.
export function writeState(state, query = new URLSearchParams()) {
  for (const [key, value] of Object.entries(state)) {
    if (value === null || value === undefined) continue;
    query.set(key, typeof value === "string" && !readable(value) ? value : JSON.stringify(value));
  }
  return query;
}

function readable(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
