// The first of pasted rows, to propose a template: JSON lines, or CSV with a header. The server reads them for good.

export const csv = (text) => !text.trimStart().startsWith("{");

export function columns(text) {
  const first = text.trimStart().split("\n", 1)[0];
  if (csv(text)) return cells(first.trim());
  try {
    return Object.keys(JSON.parse(first));
  } catch {
    return [];
  }
}

function cells(line) {
  return [...line.matchAll(/("(?:[^"]|"")*"|[^,]*)(?:,|$)/g)]
    .map(([, cell]) => (cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell))
    .filter(Boolean);
}
