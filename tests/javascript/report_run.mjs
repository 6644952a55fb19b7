// The report's modules over a small run: a root with two maps of sub-calls. Modules read their data from the document.

export const TEXTS = ["", "session", "leaf", "ok", "error", "What is said?", "big/model", "small/model", "a roof", "lost"];

export const RUN = {
  texts: TEXTS,
  head: { seconds: 9 },
  totals: {},
  coverage: { total: 0 },
  nodes: {
    n: 5,
    parent: [-1, 0, 0, 2, 0],
    ordinal: [-1, 0, 1, 0, 2],
    kind: [1, 2, 1, 2, 2],
    state: [3, 3, 3, 4, 3],
    reason: 0, model: [6, 7, 7, 7, 7], query: 5, answer: [0, 8, 0, 0, 0], error: [0, 0, 0, 9, 0],
    start: [0, 1, 1, 2, 5], end: [9, 3, 4, 3, null],
    input: 0, chars: 0, documents: 0, from: null, to: null, sample: 0, attempts: 1, actor: 0,
  },
  calls: {
    n: 3, node: [1, 3, 4], number: 1, role: 2, model: 7, provider: 0, start: [1, 2, 5], end: [3, 3, 6],
    queue: 0, rate: 0, tries: 0, input: [10, 20, 30], output: 1, cached: 0, reasoning: 0, cost: [0.5, 0.25, null],
    finish: 0, text: 0, status: 0, hit: 0, error: [0, 9, 0], tool: 0, old: 0,
  },
  cells: { n: 0 },
  maps: { n: 0 },
  attempts: { n: 0 },
};

globalThis.document = { getElementById: () => ({ textContent: JSON.stringify({ run: RUN }), remove() {} }) };
