// What is selected, filtered, folded and sorted; views hear of changes and paint themselves.

import { BAD, CALLS, CALLS_OF, CELLS, CELLS_OF, COUNT, DEPTH, NODES, RUN, SIZE, START, STATE, SUM, childrenOf, modelOf, nameOf, rowsOf, text, tookOf } from "./data.js";

export const view = { selected: -1, tab: "overview", flat: false, sort: "tree", descending: true };
export const filter = { search: "", bad: false, depth: -1, model: -1, cost: 0 };
export const folded = new Uint8Array(COUNT);
export const matches = new Uint8Array(COUNT).fill(1);
export let matched = COUNT;
export let rows = new Int32Array(0);
export const rowOf = new Int32Array(COUNT);
const listeners = { select: [], rows: [], theme: [] };

export const on = (event, act) => listeners[event].push(act);
export const tell = (event, ...facts) => listeners[event].forEach((act) => act(...facts));

export function select(node, { quiet = false } = {}) {
  view.selected = node;
  if (!quiet && node >= 0) reveal(node);
  tell("select", node);
}

// Unfold what hides a node.
function reveal(node) {
  let hidden = false;
  for (let i = NODES.parent[node]; i >= 0; i = NODES.parent[i]) {
    hidden ||= folded[i] === 1;
    folded[i] = 0;
  }
  if (hidden) arrange();
}

// Lower-case texts, made once: a search then is one pass over each text, however many nodes share it.
let lowered = null;
export const low = () => (lowered ??= RUN.texts.map((_, place) => text(place).toLowerCase()));

function searcher(needle) {
  const found = Uint8Array.from(low(), (value) => (value.includes(needle) ? 1 : 0));
  const own = ["query", "answer", "error", "model", "sample", "actor"].map((name) => NODES[name]);
  const ofCalls = [CALLS.text, CALLS.error, CALLS.status];
  const ofCells = [CELLS.code, CELLS.output, CELLS.error, CELLS.final, CELLS.killed];
  const any = (columns, row) => columns.some((column) => found[column[row]]);
  return (node) => {
    if (any(own, node) || nameOf(node) === needle) return true;
    for (const row of rowsOf(CALLS_OF, node)) if (any(ofCalls, row)) return true;
    for (const row of rowsOf(CELLS_OF, node)) if (any(ofCells, row)) return true;
    return false;
  };
}

export const filtered = () => filter.search !== "" || filter.bad || filter.depth >= 0 || filter.model >= 0 || filter.cost > 0;

export function refilter() {
  const found = filter.search ? searcher(filter.search.toLowerCase()) : null;
  matched = 0;
  for (let i = 0; i < COUNT; i++) {
    const keep =
      (!filter.bad || BAD[i]) &&
      (filter.depth < 0 || DEPTH[i] === filter.depth) &&
      (filter.model < 0 || NODES.model[i] === filter.model) &&
      (filter.cost <= 0 || SUM.cost[i] >= filter.cost) &&
      (found === null || found(i));
    matches[i] = keep ? 1 : 0;
    matched += matches[i];
  }
  arrange();
}

const KEYS = {
  start: (i) => START[i],
  took: tookOf,
  calls: (i) => SUM.calls[i],
  tokens: (i) => SUM.tokens[i],
  cost: (i) => SUM.cost[i],
  waits: (i) => SUM.queue[i] + SUM.rate[i],
  retries: (i) => SUM.retries[i],
  state: (i) => STATE[i],
  model: modelOf,
};

function order(nodes) {
  const key = KEYS[view.sort];
  if (!key) return view.descending ? nodes : nodes.reverse();
  const sign = view.descending ? -1 : 1;
  const keys = new Map(nodes.map((node) => [node, key(node)]));
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return nodes.sort((a, b) => sign * compare(keys.get(a), keys.get(b)) || a - b);
}

// The rows of table and timeline: matches with what stands above them, or in one list the matches alone.
export function arrange() {
  const kept = filtered() ? above(matches) : null;
  const found = [];
  if (view.flat) {
    for (let i = 0; i < COUNT; i++) if (matches[i]) found.push(i);
    order(found);
  } else {
    const stack = [0];
    while (stack.length) {
      const node = stack.pop();
      if (kept && !kept[node]) continue;
      found.push(node);
      if (folded[node] && !kept) continue;
      for (const child of order([...childrenOf(node)]).reverse()) stack.push(child);
    }
  }
  rows = Int32Array.from(found);
  rowOf.fill(-1);
  rows.forEach((node, row) => (rowOf[node] = row));
  tell("rows");
}

function above(wanted) {
  const kept = wanted.slice();
  for (let i = COUNT - 1; i > 0; i--) if (kept[i]) kept[NODES.parent[i]] = 1;
  return kept;
}

export function fold(node, shut) {
  folded[node] = shut ? 1 : 0;
  arrange();
}

// Whether a node can be folded here: it has something below it, and rows stand as a tree.
export const hasTurner = (node) => node >= 0 && SIZE[node] > 1 && !view.flat;

export function turn(node) {
  if (hasTurner(node) && !filtered()) fold(node, !folded[node]);
}

export function foldAll(shut) {
  for (let i = 1; i < COUNT; i++) folded[i] = shut && SIZE[i] > 1 ? 1 : 0;
  arrange();
}

// A large tree begins folded below its first layer.
export function foldAtFirst() {
  for (let i = 1; i < COUNT && COUNT > 1000; i++) folded[i] = SIZE[i] > 1 ? 1 : 0;
}

export function sortBy(key) {
  view.descending = view.sort === key ? !view.descending : true;
  view.sort = key;
  arrange();
}
