// The turns of a node: what the model was told and wrote, what its code did, and what went out from there.

import { BAD, CALLS, CALLS_OF, CELLS, CELLS_OF, KIND, LAST, MAPS, MAPS_OF, NODES, RUN, childrenOf, endOf, nameOf, rowsOf, text } from "./data.js";
import { button, count, el, facts, many, money, oneLine, seconds, shown, tableOf } from "./words.js";
import { select } from "./state.js";

export function turnsOf(node) {
  const made = [];
  const open = new Set([...rowsOf(CELLS_OF, node)].filter((row) => !CELLS.old[row]));
  const calls = [...rowsOf(CALLS_OF, node)].filter((row) => !CALLS.old[row]).sort((a, b) => CALLS.number[a] - CALLS.number[b]);
  let turn = 0;
  for (const call of calls) {
    const role = text(CALLS.role[call]);
    if (role !== "turn") {
      made.push({ title: role === "last" ? "Last call, after the stop" : "Call", call, cell: -1, maps: [] });
      continue;
    }
    turn += 1;
    const cell = [...open].find((row) => CELLS.turn[row] === turn) ?? -1;
    open.delete(cell);
    made.push({ title: `Turn ${turn}`, call, cell, maps: mapsOf(node, turn) });
  }
  for (const cell of open) made.push({ title: `Turn ${CELLS.turn[cell]}`, call: -1, cell, maps: mapsOf(node, CELLS.turn[cell]) });
  return made;
}

const mapsOf = (node, turn) => [...rowsOf(MAPS_OF, node)].filter((row) => MAPS.turn[row] === turn);

export function earlierOf(node) {
  const calls = [...rowsOf(CALLS_OF, node)].filter((row) => CALLS.old[row]);
  const cells = [...rowsOf(CELLS_OF, node)].filter((row) => CELLS.old[row]);
  const made = calls.map((call) => ({ title: `Call ${CALLS.number[call]}`, call, cell: -1, maps: [] }));
  return made.concat(cells.map((cell) => ({ title: `Code of turn ${CELLS.turn[cell]}`, call: -1, cell, maps: [] })));
}

// A folded block whose inside is made when it is first opened.
export function folding(summary, fill, open) {
  const box = el("details", { class: "turn", open }, el("summary", {}, ...summary));
  let empty = true;
  const filling = () => {
    if (!empty || !box.open) return;
    empty = false;
    box.append(...fill().filter(Boolean));
  };
  box.addEventListener("toggle", filling);
  filling();
  return box;
}

export function turnBox(node, { title, call, cell, maps }, open) {
  const wrong = (call >= 0 && CALLS.error[call]) || (cell >= 0 && (CELLS.error[cell] || CELLS.killed[cell]));
  const took = call >= 0 ? (CALLS.end[call] ?? LAST) - CALLS.start[call] : CELLS.end[cell] - CELLS.start[cell];
  const said = call >= 0 && CALLS.end[call] === null ? "no reply recorded" : seconds(took);
  const sent = maps.reduce((sum, row) => sum + MAPS.count[row], 0);
  const summary = [el("b", {}, title), el("span", {}, said), sent ? el("span", {}, many(sent, "sub-call")) : null, wrong ? el("span", { class: "wrong" }, "error") : null];
  return folding(summary.filter(Boolean), () => [...(call >= 0 ? callParts(node, call) : []), ...maps.map((row) => mapPart(node, row)), ...(cell >= 0 ? cellParts(cell) : [])], open);
}

export function part(label, place, kind = "") {
  return RUN.texts[place] ? el("div", { class: `part ${kind}` }, el("h4", {}, label), shown(place)) : null;
}

function callParts(node, row) {
  const leaf = KIND[node] === "leaf" || KIND[node] === "direct";
  return [
    callFacts(row),
    triesPart(row),
    part("Failed", CALLS.error[row], "wrong"),
    part("Told", CALLS.status[row]),
    part(leaf ? "Reply" : "Wrote", CALLS.text[row]),
  ];
}

function callFacts(row) {
  if (CALLS.end[row] === null) return facts([["Model", text(CALLS.model[row])], ["Sent", seconds(CALLS.start[row])], ["Reply", "none recorded"]]);
  const cached = CALLS.cached[row] ? ` (${count(CALLS.cached[row])} cached)` : "";
  const thought = CALLS.reasoning[row] ? ` (${count(CALLS.reasoning[row])} reasoning)` : "";
  const cost = CALLS.hit[row] ? "from the cache" : CALLS.cost[row] === null ? (CALLS.error[row] ? "" : "price unknown") : money(CALLS.cost[row]);
  return facts([
    ["Model", text(CALLS.model[row])],
    ["Provider", text(CALLS.provider[row])],
    ["From", seconds(CALLS.start[row])],
    ["Took", seconds(CALLS.end[row] - CALLS.start[row])],
    ["Queue", CALLS.queue[row] ? seconds(CALLS.queue[row]) : ""],
    ["Rate wait", CALLS.rate[row] ? seconds(CALLS.rate[row]) : ""],
    ["Input", CALLS.input[row] ? count(CALLS.input[row]) + cached : ""],
    ["Output", CALLS.output[row] ? count(CALLS.output[row]) + thought : ""],
    ["Cost", cost],
    ["Finish", text(CALLS.finish[row])],
    ["Tool call", CALLS.tool[row] ? "yes, though it has none" : ""],
  ]);
}

function triesPart(row) {
  const tries = CALLS.tries[row] || [];
  if (!tries.length) return null;
  const lines = tries.map(([at, kind, why]) => [seconds(at), text(kind), oneLine(text(why), 300)]);
  return el("div", { class: "part" }, el("h4", {}, `${many(tries.length, "attempt")} failed before`), tableOf(["At", "Kind", "Why"], lines));
}

function mapPart(node, row) {
  const [first, size, plain] = [MAPS.first[row], MAPS.count[row], MAPS.count[row] - MAPS.sessions[row]];
  const kinds = [MAPS.sessions[row] ? many(MAPS.sessions[row], "child session") : "", plain ? many(plain, "plain call") : ""].filter(Boolean).join(" and ");
  const end = MAPS.end[row] === null ? "not over" : `${count(MAPS.answered[row])} answered, ${count(MAPS.failed[row])} failed`;
  const ordinals = size === 1 ? `${first}` : `${first}–${first + size - 1}`;
  const children = [...childrenOf(node)].filter((child) => NODES.ordinal[child] >= first && NODES.ordinal[child] < first + size);
  return el("div", { class: "part map" }, el("h4", {}, `Sent out ${ordinals}: ${kinds}; ${end}; ${seconds((MAPS.end[row] ?? endOf(node)) - MAPS.start[row])}`), shown(MAPS.query[row]), linksTo(children));
}

const LINKS = 60;

export function linksTo(nodes) {
  const links = nodes.slice(0, LINKS).map((node) => button(nameOf(node), () => select(node), { class: `link${BAD[node] ? " bad" : ""}`, title: oneLine(text(NODES.query[node])) }));
  const rest = nodes.length - links.length;
  return el("div", { class: "links" }, ...links, rest > 0 ? el("span", { class: "note" }, `and ${count(rest)} more, in Nodes`) : null);
}

function cellParts(row) {
  const printed = text(CELLS.output[row]).length;
  const note = CELLS.output_chars[row] > printed ? ` (shown to the model in part: ${count(CELLS.output_chars[row])} characters were printed)` : "";
  const variables = (CELLS.variables[row] || []).map(([name, kind, size]) => `${text(name)}: ${text(kind)}${size === null ? "" : `[${count(size)}]`}`);
  return [
    facts([["Code ran", seconds(CELLS.end[row] - CELLS.start[row])], ["of it waiting", CELLS.waited[row] ? seconds(CELLS.waited[row]) : ""]]),
    part("Code", CELLS.code[row], "code"),
    part(`Output${note}`, CELLS.output[row]),
    part("Error", CELLS.error[row], "wrong"),
    part("REPL killed", CELLS.killed[row], "wrong"),
    part("Final answer", CELLS.final[row]),
    variables.length ? el("div", { class: "part" }, el("h4", {}, "Variables"), el("p", { class: "names" }, variables.join("  ·  "))) : null,
    ...(CELLS.notes[row] || []).map((place) => part("Note", place)),
  ];
}
