// All that is known of the selected node: its facts, its turns and what is below it.

import { ATTEMPTS, ATTEMPTS_OF, BAD, CALLS, CALLS_OF, CELLS, CELLS_OF, CITATIONS, CITATIONS_OF, DEPTH, KIND, LAST, MAPS, MAPS_OF, NODES, OWN, RUN, SIZE, START, STATE, SUM, TOOLS, TOOLS_OF, childrenOf, endOf, modelOf, nameOf, pathOf, rowsOf, text, tookOf } from "./data.js";
import { bounded, button, copyButton, count, el, facts, headed, many, money, oneLine, pill, seconds, share, short, shown, stateWords, tableOf, wide } from "./words.js";
import { on, select, view } from "./state.js";
import { tipOf } from "./canvas.js";
import { VIEWS } from "./main.js";

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
  return folding(summary.filter(Boolean), () => [...(call >= 0 ? callParts(node, call) : []), ...maps.map((row) => mapPart(node, row)), ...(cell >= 0 ? [...cellParts(cell), toolsPart(node, CELLS.turn[cell]), citationsPart(node, CELLS.turn[cell])] : [])], open);
}

const COPIED = { Code: "code", "Final answer": "answer", Answer: "answer", Reply: "reply", Wrote: "reply" };

export function part(label, place, kind = "") {
  if (!RUN.texts[place]) return null;
  const head = el("h4", {}, label);
  return el("div", { class: `part ${kind}` }, COPIED[label] ? headed(head, copyButton(COPIED[label], RUN.texts[place])) : head, shown(place));
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
    ["Queue wait", CALLS.queue[row] ? seconds(CALLS.queue[row]) : ""],
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

function toolsPart(node, turn) {
  const rows = [...rowsOf(TOOLS_OF, node)].filter((row) => TOOLS.turn[row] === turn);
  if (!rows.length) return null;
  const lines = rows.map((row) => [text(TOOLS.name[row]), oneLine(text(TOOLS.arguments[row]), 300), oneLine(text(TOOLS.error[row]) || text(TOOLS.result[row]), 300), seconds(TOOLS.end[row] - TOOLS.start[row])]);
  return el("div", { class: "part tools" }, el("h4", {}, `Called ${many(rows.length, "tool")}`), tableOf(["Tool", "Arguments", "Result", "Took"], lines));
}

function citationsPart(node, turn) {
  const rows = [...rowsOf(CITATIONS_OF, node)].filter((row) => CITATIONS.turn[row] === turn);
  return rows.length ? el("div", { class: "part" }, el("h4", {}, "Cited"), ...rows.map((row) => citationBox(row))) : null;
}

// Words that were found in the context, where they stand and what stands around them.
export function citationBox(row, where = text(CITATIONS.place[row]), id = null) {
  const passage = [text(CITATIONS.before[row]), el("mark", {}, text(CITATIONS.quote[row])), text(CITATIONS.after[row])];
  return el("figure", { class: "citation", id }, el("blockquote", {}, "… ", ...passage, " …"), el("figcaption", {}, where));
}

const pane = document.getElementById("pane");

export function focusPane() {
  if (!pane.hidden) pane.focus();
}

export function closePane() {
  select(-1);
  VIEWS[view.tab].focus?.();
}

function showPane(node) {
  pane.hidden = node < 0;
  document.getElementById("main").classList.toggle("with-pane", node >= 0);
  if (node < 0) return;
  pane.scrollTop = 0;
  pane.replaceChildren(...paneParts(node).filter(Boolean));
}

function paneParts(node) {
  const turns = turnsOf(node);
  const earlier = earlierOf(node);
  const few = turns.length <= 3;
  return [
    paneHead(node),
    nodeFacts(node),
    part(STATE[node] === "stopped" ? "Stopped" : "Failed", NODES.error[node], "wrong"),
    part("Question", NODES.query[node]),
    inputPart(node),
    attemptsPart(node),
    answerPart(node, turns),
    turns.length ? el("h3", {}, KIND[node] === "session" ? many(turns.length, "turn") : "Call") : el("p", { class: "note" }, "No call of it is recorded."),
    ...turns.map((turn, place) => turnBox(node, turn, few || place === 0)),
    earlier.length ? folding([el("b", {}, "Earlier attempts"), el("span", {}, many(earlier.length, "record"))], () => earlier.map((turn) => turnBox(node, turn, false)), false) : null,
    belowPart(node),
  ];
}

const linkTo = (node) => `${location.href.split("#")[0]}#node=${pathOf(node)}`;

function paneHead(node) {
  const up = node > 0 ? button("↑ parent", () => select(NODES.parent[node]), { class: "link" }) : null;
  const kind = { leaf: "plain call", session: "session", direct: "direct call", unknown: "node" }[KIND[node]];
  const title = el("h2", {}, el("i", { class: `dot d${DEPTH[node] % 6}` }), nameOf(node));
  return el("div", { class: "pane-head" }, title, el("span", { class: "note" }, `${kind}, depth ${DEPTH[node]}`), pill(STATE[node]), up, copyButton("link to this node", linkTo(node), "Copy link"), button("×", closePane, { class: "close", "aria-label": "Close the pane (Escape)" }));
}

function nodeFacts(node) {
  const list = facts([
    ["Model", modelOf(node)],
    ["Started", seconds(START[node])],
    ["Took", STATE[node] === "unfinished" ? `${seconds(tookOf(node))}, not over` : seconds(tookOf(node))],
    ["Ended", stateWords(text(NODES.reason[node]))],
    ["Actor", text(NODES.actor[node])],
  ]);
  const used = [["calls", count], ["input", short], ["output", short], ["cost", money], ["queue", seconds], ["rate", seconds], ["retries", count]];
  const lines = [["itself", ...used.map(([name, words]) => words(OWN[name][node]))]];
  if (SIZE[node] > 1) lines.push(["with below", ...used.map(([name, words]) => words(SUM[name][node]))]);
  return el("div", {}, list, wide(tableOf(["", "Calls", "Input", "Output", "Cost", "Queue", "Rate", "Retries"], lines)), el("p", { class: "note" }, "Queue: waits for a free place at the model or the budget; rate: for the rate limit. Both summed over calls that may wait side by side."));
}

function inputPart(node) {
  const kind = text(NODES.input[node]) === "documents" ? many(NODES.documents[node], "document") : "text";
  const [from, to] = [NODES.from[node], NODES.to[node]];
  const box = el("div", { class: "part" }, el("h4", {}, "Input"), el("p", {}, `${kind}, ${count(NODES.chars[node])} characters`));
  if (RUN.texts[NODES.origin[node]]) box.append(el("p", { class: "origin" }, text(NODES.origin[node])));
  const total = RUN.coverage.total;
  if (from !== null && total > 0) {
    const mark = el("div", { class: `mark d${DEPTH[node] % 6}` });
    mark.style.left = `${(100 * from) / total}%`;
    mark.style.width = `${Math.max(0.4, (100 * (to - from)) / total)}%`;
    box.append(el("div", { class: "strip" }, mark), el("p", { class: "note" }, `bytes ${count(from)} to ${count(to)} of the root's context, ${share(to - from, total)} of it`));
  }
  if (node > 0 && from === null && total > 0 && NODES.chars[node]) box.append(el("p", { class: "note" }, "Not placed: a text of its own, or a slice of the context that was changed."));
  if (RUN.texts[NODES.sample[node]]) box.append(shown(NODES.sample[node], { class: "sample" }));
  return box;
}

function attemptsPart(node) {
  const lines = [...rowsOf(ATTEMPTS_OF, node)].map((row) => [
    ATTEMPTS.number[row],
    text(ATTEMPTS.actor[row]),
    seconds(ATTEMPTS.start[row]),
    ATTEMPTS.end[row] === null ? "–" : seconds(ATTEMPTS.end[row]),
    text(ATTEMPTS.reason[row]) || "no end recorded",
    oneLine(text(ATTEMPTS.error[row]), 200),
  ]);
  return lines.length ? el("div", { class: "part" }, el("h4", {}, "Attempts"), tableOf(["#", "Actor", "From", "To", "Ended", "Why"], lines)) : null;
}

function answerPart(node, turns) {
  if (KIND[node] === "leaf" && turns.length) return null;
  if (node === 0) return RUN.head.answered ? el("div", { class: "part" }, headed(el("h4", {}, "Answer"), copyButton("answer", RUN.head.answer)), bounded(RUN.head.answer)) : null;
  return part("Answer", NODES.answer[node]);
}

function belowPart(node) {
  if (SIZE[node] === 1) return null;
  const children = [...childrenOf(node)];
  const states = {};
  for (const child of children) states[STATE[child]] = (states[STATE[child]] ?? 0) + 1;
  const said = Object.entries(states).map(([state, number]) => `${count(number)} ${state}`).join(", ");
  return el("div", { class: "part" }, el("h4", {}, `${many(children.length, "sub-call")} (${said}); ${many(SIZE[node] - 1, "node")} below in all`), linksTo(children));
}

on("select", (node) => {
  showPane(node);
  document.getElementById("live").textContent = node < 0 ? "" : tipOf(node).slice(0, 3).join(", ");
});
