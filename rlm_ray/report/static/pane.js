// All that is known of the selected node.

import { ATTEMPTS, ATTEMPTS_OF, DEPTH, KIND, NODES, OWN, RUN, SIZE, START, STATE, SUM, childrenOf, modelOf, nameOf, rowsOf, text, tookOf } from "./data.js";
import { bounded, button, count, el, facts, many, money, oneLine, pill, seconds, share, short, shown, tableOf } from "./words.js";
import { on, select, view } from "./state.js";
import { tipOf } from "./canvas.js";
import { earlierOf, folding, linksTo, part, turnBox, turnsOf } from "./turns.js";
import { VIEWS } from "./main.js";

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
    part("Failed", NODES.error[node], "wrong"),
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

function paneHead(node) {
  const up = node > 0 ? button("↑ parent", () => select(NODES.parent[node]), { class: "link" }) : null;
  const kind = { leaf: "plain call", session: "session", direct: "direct call", unknown: "node" }[KIND[node]];
  const title = el("h2", {}, el("i", { class: `dot d${DEPTH[node] % 6}` }), nameOf(node));
  return el("div", { class: "pane-head" }, title, el("span", { class: "note" }, `${kind}, depth ${DEPTH[node]}`), pill(STATE[node]), up, button("×", closePane, { class: "close", "aria-label": "Close the pane (Escape)" }));
}

function nodeFacts(node) {
  const list = facts([
    ["Model", modelOf(node)],
    ["Started", seconds(START[node])],
    ["Took", STATE[node] === "unfinished" ? `${seconds(tookOf(node))}, not over` : seconds(tookOf(node))],
    ["Ended by", text(NODES.reason[node])],
    ["Actor", text(NODES.actor[node])],
  ]);
  const used = [["calls", count], ["input", short], ["output", short], ["cost", money], ["queue", seconds], ["rate", seconds], ["retries", count]];
  const lines = [["itself", ...used.map(([name, words]) => words(OWN[name][node]))]];
  if (SIZE[node] > 1) lines.push(["with below", ...used.map(([name, words]) => words(SUM[name][node]))]);
  return el("div", {}, list, el("div", { class: "wide" }, tableOf(["", "Calls", "Input", "Output", "Cost", "Queue", "Rate", "Retries"], lines)));
}

function inputPart(node) {
  const kind = text(NODES.input[node]) === "documents" ? many(NODES.documents[node], "document") : "text";
  const [from, to] = [NODES.from[node], NODES.to[node]];
  const box = el("div", { class: "part" }, el("h4", {}, "Input"), el("p", {}, `${kind}, ${count(NODES.chars[node])} characters`));
  const total = RUN.coverage.total;
  if (from !== null && total > 0) {
    const mark = el("div", { class: `mark d${DEPTH[node] % 6}` });
    mark.style.left = `${(100 * from) / total}%`;
    mark.style.width = `${Math.max(0.4, (100 * (to - from)) / total)}%`;
    box.append(el("div", { class: "strip" }, mark), el("p", { class: "note" }, `bytes ${count(from)} to ${count(to)} of the root's context, ${share(to - from, total)} of it`));
  }
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
  if (node === 0) return RUN.head.answered ? el("div", { class: "part" }, el("h4", {}, "Answer"), bounded(RUN.head.answer)) : null;
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
