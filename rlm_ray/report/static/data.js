// The run as columns. A node is a number: its place. Children stand right behind their parent, so all that is below
// node i are the places from i + 1 to i + size[i] - 1.

export const DATA = JSON.parse(document.getElementById("data").textContent);
document.getElementById("data").remove();
export const RUN = DATA.run;

export function text(place) {
  const found = RUN.texts[place];
  return typeof found === "string" ? found : found[0];
}

function unpacked(table) {
  const columns = { n: table.n };
  for (const [name, column] of Object.entries(table)) {
    if (name !== "n") columns[name] = Array.isArray(column) ? column : new Array(table.n).fill(column);
  }
  return columns;
}

export const NODES = unpacked(RUN.nodes);
export const CALLS = unpacked(RUN.calls);
export const CELLS = unpacked(RUN.cells);
export const MAPS = unpacked(RUN.maps);
export const ATTEMPTS = unpacked(RUN.attempts);
export const TOOLS = unpacked(RUN.tools ?? { n: 0 });
export const CITATIONS = unpacked(RUN.citations ?? { n: 0 });
export const COUNT = NODES.n;
export const LAST = Math.max(RUN.head.seconds, 1e-3);

// Rows of a table that belong to node i: from index[i] to index[i + 1] - 1.
function indexed(table) {
  const index = new Int32Array(COUNT + 1);
  for (const node of table.node ?? []) index[node + 1] += 1;
  for (let i = 0; i < COUNT; i++) index[i + 1] += index[i];
  return index;
}

export const CALLS_OF = indexed(CALLS);
export const CELLS_OF = indexed(CELLS);
export const MAPS_OF = indexed(MAPS);
export const ATTEMPTS_OF = indexed(ATTEMPTS);
export const TOOLS_OF = indexed(TOOLS);
export const CITATIONS_OF = indexed(CITATIONS);

export function* rowsOf(index, node) {
  for (let row = index[node]; row < index[node + 1]; row++) yield row;
}

export const DEPTH = new Int32Array(COUNT);
export const SIZE = new Int32Array(COUNT).fill(1);
for (let i = 1; i < COUNT; i++) DEPTH[i] = DEPTH[NODES.parent[i]] + 1;
for (let i = COUNT - 1; i > 0; i--) SIZE[NODES.parent[i]] += SIZE[i];
export const DEEPEST = DEPTH.reduce((most, depth) => Math.max(most, depth), 0);

export function* childrenOf(node) {
  for (let child = node + 1; child < node + SIZE[node]; child += SIZE[child]) yield child;
}

export const STATE = NODES.state.map(text);
export const KIND = NODES.kind.map(text);
export const FELL = Uint8Array.from(STATE, (state) => (["error", "lost", "cancelled"].includes(state) ? 1 : 0));
export const BAD = FELL.slice(); // also where a call failed, a REPL was killed or an earlier attempt was lost
export const START = Float64Array.from(NODES.start, (value) => value ?? NaN);
const END = Float64Array.from(NODES.end, (value) => value ?? NaN);

// What each node did itself (OWN) and with all that is below it (SUM).
const FIGURES = ["busy", "cost", "tokens", "input", "output", "calls", "retries", "queue", "rate", "failed"];
export const OWN = {};
export const SUM = {};
for (const name of FIGURES) OWN[name] = new Float64Array(COUNT);

for (let row = 0; row < CALLS.n; row++) {
  const node = CALLS.node[row];
  const end = CALLS.end[row];
  OWN.busy[node] += Math.max(0, (end ?? LAST) - CALLS.start[row]);
  if (CALLS.error[row]) BAD[node] = 1;
  if (CALLS.hit[row] || end === null) continue;
  OWN.cost[node] += CALLS.cost[row] ?? 0;
  OWN.input[node] += CALLS.input[row];
  OWN.output[node] += CALLS.output[row];
  OWN.tokens[node] += CALLS.input[row] + CALLS.output[row];
  OWN.calls[node] += CALLS.error[row] ? 0 : 1;
  OWN.failed[node] += CALLS.error[row] ? 1 : 0;
  OWN.retries[node] += CALLS.tries[row] ? CALLS.tries[row].length : 0;
  OWN.queue[node] += CALLS.queue[row];
  OWN.rate[node] += CALLS.rate[row];
}
for (let row = 0; row < CELLS.n; row++) {
  OWN.busy[CELLS.node[row]] += Math.max(0, CELLS.end[row] - CELLS.start[row] - CELLS.waited[row]);
  if (CELLS.killed[row]) BAD[CELLS.node[row]] = 1;
}
for (let row = 0; row < ATTEMPTS.n; row++) if (text(ATTEMPTS.reason[row]) === "lost") BAD[ATTEMPTS.node[row]] = 1;
for (const name of FIGURES) SUM[name] = OWN[name].slice();
for (let i = COUNT - 1; i >= 0; i--) {
  const parent = NODES.parent[i];
  if (parent < 0) continue;
  for (const name of FIGURES) SUM[name][parent] += SUM[name][i];
  if (Number.isNaN(START[parent]) || START[i] < START[parent]) START[parent] = START[i];
}

export const endOf = (node) => (Number.isNaN(END[node]) ? LAST : END[node]);
export const tookOf = (node) => Math.max(0, endOf(node) - START[node]) || 0;
export const modelOf = (node) => text(NODES.model[node]);

function ordinalsOf(node) {
  const ordinals = [];
  for (let i = node; i > 0; i = NODES.parent[i]) ordinals.push(NODES.ordinal[i]);
  return ordinals.reverse();
}

// All its ordinals from the root, as links name it: "2.0.17".
export const pathOf = (node) => ordinalsOf(node).join(".") || "root";

// The node that a link names; -1 where there is none.
export function nodeAt(path) {
  if (COUNT === 0) return -1;
  let node = 0;
  for (const ordinal of path === "root" ? [] : path.split(".")) {
    node = [...childrenOf(node)].find((child) => `${NODES.ordinal[child]}` === ordinal) ?? -1;
    if (node < 0) return -1;
  }
  return node;
}

// The same, short enough to read.
export function nameOf(node) {
  if (node === 0) return "root";
  const ordinals = ordinalsOf(node);
  return ordinals.length <= 8 ? ordinals.join(".") : `${ordinals.slice(0, 3).join(".")}…${ordinals.slice(-3).join(".")}`;
}
