// Prometheus' text format, as far as a page wants it: sums over labels, rates, and percentiles of histograms.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([-+.\w]+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

// [{name, labels, value}] of a scrape.
export function parse(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    found.push({ name: match[1], labels, value: match[3] === "+Inf" ? Infinity : Number(match[3]) });
  }
  return found;
}

// The sum of a metric's series with these labels.
export function sum(scrape, name, labels = {}) {
  const wanted = Object.entries(labels);
  return scrape
    .filter((one) => one.name === name && wanted.every(([label, value]) => one.labels[label] === value))
    .reduce((total, one) => total + one.value, 0);
}

// How a histogram's counts grew from one scrape to another: [upper bound, count up to it], ascending.
export function grown(before, after, name) {
  const counts = (scrape) => {
    const found = new Map();
    for (const one of scrape) {
      if (one.name !== `${name}_bucket`) continue;
      const bound = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
      found.set(bound, (found.get(bound) ?? 0) + one.value);
    }
    return found;
  };
  const old = counts(before);
  return [...counts(after)].map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)]).sort(([a], [b]) => a - b);
}

// The quantile `q` of a histogram, by a straight line within its bucket as Prometheus does; null without observations.
export function quantile(q, buckets) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!total) return null;
  let [lower, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= q * total) {
      if (bound === Infinity) return lower;
      return lower + ((bound - lower) * (q * total - below)) / (count - below || 1);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}
