// Thresholds as a person writes them, expanded as discover/thresholds.py does; the server decides.

const RANGE = /^([^:]+):([^:]+):(\d+)(log|lin)$/;
const MOST = 1000;

// {taus} ascending and each once, or {problem}.
export function expand(text) {
  const found = [];
  for (const part of text.split(",").map((each) => each.trim())) {
    const parts = RANGE.exec(part);
    const numbers = parts ? [parts[1], parts[2]].map(positive) : [positive(part)];
    if (numbers.includes(null)) return { problem: `"${part}" is not a threshold; write 0.01,0.1 or 0.001:1:20log or 0.1:1:10lin` };
    if (!parts) {
      found.push(numbers[0]);
      continue;
    }
    const count = Number(parts[3]);
    if (count < 2 || numbers[0] >= numbers[1]) return { problem: `"${part}" is no range: it needs at least 2 thresholds, from the smaller to the larger` };
    if (count > MOST) return { problem: `"${part}" is ${count} thresholds, which is more than anyone wants` };
    found.push(...between(...numbers, count, parts[4] === "log"));
  }
  return { taus: [...new Set(found)].sort((a, b) => a - b) };
}

function positive(text) {
  const value = text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(value) && value > 0 ? value : null;
}

function between(first, last, count, log) {
  return Array.from({ length: count }, (_, i) => {
    if (i === 0) return first;
    if (i === count - 1) return last;
    const share = i / (count - 1);
    const value = log ? first * (last / first) ** share : first + (last - first) * share;
    return Number(value.toPrecision(12));
  });
}
