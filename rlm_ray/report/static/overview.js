// The run as a whole, and beside another one where there is one to compare with.

import { ATTEMPTS, ATTEMPTS_OF, BAD, CALLS, CALLS_OF, CITATIONS, CITATIONS_OF, COUNT, DATA, DEEPEST, DEPTH, FELL, NODES, RUN, SIZE, STATE, childrenOf, nameOf, rowsOf, text } from "./data.js";
import { bounded, button, copyButton, cost, count, el, facts, headed, many, money, oneLine, pill, scrolling, seconds, share, short, stateWords, tableOf, wide } from "./words.js";
import { on, select, view } from "./state.js";
import { colours, depthColour, hideTip, sharp, showTip } from "./canvas.js";
import { citationBox, focusPane, folding } from "./pane.js";
import { showBad, themeButton } from "./main.js";

const MEASURES = [
  ["Time", (run) => run.head.seconds, seconds],
  ["Cost", (run) => run.totals.total.cost_usd, money],
  ["Input tokens", (run) => run.totals.total.input_tokens, count],
  ["Output tokens", (run) => run.totals.total.output_tokens, count],
  ["Calls", (run) => run.totals.total.calls, count],
  ["Failed calls", (run) => run.totals.failed_calls, count],
  ["From the cache", (run) => run.totals.cache_hits, count],
  ["Sessions", (run) => run.totals.sessions, count],
  ["Nodes", (run) => run.totals.nodes, count],
  ["Depth", (run) => run.totals.depth, count],
  ["Cells", (run) => run.totals.cells, count],
  ["Cells with an error", (run) => run.totals.cell_errors, count],
  ["Queue, on the clock", (run) => run.waits.queue.clock, seconds],
  ["Queue, summed over calls", (run) => run.waits.queue.sum, seconds],
  ["Rate waits, on the clock", (run) => run.waits.rate.clock, seconds],
  ["Rate waits, summed over calls", (run) => run.waits.rate.sum, seconds],
  ["Retries", (run) => run.totals.total.retries, count],
  ["Lost sessions", (run) => run.totals.lost_sessions, count],
  ["Context given to sub-calls, bytes", (run) => run.coverage.given, count],
];

function difference(before, after, words) {
  const by = after - before;
  if (Math.abs(by) < 1e-9) return el("span", { class: "note" }, "the same");
  const part = before ? ` (${by > 0 ? "+" : "−"}${((100 * Math.abs(by)) / before).toFixed(0)} %)` : "";
  return el("span", {}, `${by > 0 ? "+" : "−"}${words(Math.abs(by))}${part}`);
}

const versus = (name, before, after, words) => [name, words(before), words(after), difference(before, after, words)];

function talliesSideBySide(title, key, name = (value) => value) {
  const [one, two] = [RUN.totals[key], DATA.other.totals[key]];
  const keys = [...new Set([...Object.keys(one), ...Object.keys(two)])];
  const of = (tally, field) => tally?.[field] ?? 0;
  const lines = keys.flatMap((item) => [
    versus(`${name(item)}: calls`, of(one[item], "calls"), of(two[item], "calls"), count),
    versus("tokens", of(one[item], "input_tokens") + of(one[item], "output_tokens"), of(two[item], "input_tokens") + of(two[item], "output_tokens"), count),
    versus("cost", of(one[item], "cost_usd"), of(two[item], "cost_usd"), money),
  ]);
  return el("section", {}, el("h3", {}, title), tableOf(["", "This run", "Other run", "Difference"], lines));
}

function changed() {
  const box = scrolling(el("pre", { class: "answer" }));
  for (const [kind, piece] of DATA.changes) box.append(el({ same: "span", gone: "del", new: "ins" }[kind], {}, piece));
  return DATA.changes.length ? box : el("p", { class: "note" }, "Neither run has an answer.");
}

export function makeCompare() {
  const [one, two] = [RUN, DATA.other];
  const head = (run, name) => [name, run.head.run_id, run.head.state, run.head.model];
  const same = DATA.same_question ? "Both were asked the same question." : "They were asked different questions.";
  const runs = el("section", { class: "broad" }, el("h3", {}, "Runs"), tableOf(["", "Run", "Ended", "Model"], [head(one, "This run"), head(two, "Other run")]), el("p", {}, same), DATA.same_question ? null : bounded(two.head.query, { class: "question" }));
  const totals = el("section", {}, el("h3", {}, "Totals"), tableOf(["", "This run", "Other run", "Difference"], MEASURES.map(([name, of, words]) => versus(name, of(one), of(two), words))));
  const answers = el("section", { class: "broad" }, el("h3", {}, "Answers"), el("p", { class: "note" }, "Struck out: only in this run. Underlined: only in the other."), changed());
  const sides = el("section", { class: "broad sides" }, el("div", {}, el("h4", {}, "This run"), bounded(one.head.answer, { class: "answer" })), el("div", {}, el("h4", {}, "Other run"), bounded(two.head.answer, { class: "answer" })));
  const tables = el("div", { class: "stack" }, talliesSideBySide("By model", "by_model"), talliesSideBySide("By depth", "by_depth", (depth) => `depth ${depth}`));
  const body = el("div", { class: "scroller overview", tabindex: "0" }, runs, answers, sides, totals, tables);
  return { label: "Compare", body: el("div", { class: "fill" }, body), paint() {}, focus: () => body.focus() };
}

export function paintHead() {
  const { head, totals, waits } = RUN;
  const used = totals.total;
  const question = Array.isArray(head.query) ? head.query[0] : head.query;
  const answer = Array.isArray(head.answer) ? head.answer[0] : head.answer;
  const title = el("div", { class: "title" }, el("h1", { title: question.slice(0, 2000) }, question || (head.run_id ? "(the question is not recorded)" : "(an empty journal)")), pill(head.state), themeButton());
  const said = head.answered ? answer || "(the answer is not recorded)" : isBatch() ? questionsAsked() : head.why || (head.state === "unfinished" ? "No end of this run is recorded: it goes on, or it was killed." : "No answer.");
  const stats = el("dl", { id: "stats" });
  for (const [term, value, note, kind] of statsOf(head, totals, used, waits)) {
    stats.append(el("div", { title: note, class: kind ?? null }, el("dt", {}, term), el("dd", {}, value)));
  }
  document.getElementById("head").replaceChildren(title, el("p", { id: "answer", title: "The whole answer is in Overview" }, said.slice(0, 1000)), stats);
}

const summed = ({ sum, count: number }, what) => (number ? `summed over ${many(number, what)}: ${seconds(sum)}` : "none did");

function statsOf(head, totals, used, waits) {
  const errors = (totals.states.error ?? 0) + (totals.states.lost ?? 0) + (totals.states.cancelled ?? 0);
  return [
    ["Time", seconds(head.seconds), head.paused ? `${seconds(head.paused)} of pause before a resume not counted` : "From the first record to the last"],
    ["Cost", cost(used), used.unpriced ? `The price of ${many(used.unpriced, "call")} is not known` : "US dollars"],
    ["Tokens in", short(used.input_tokens), `${count(used.input_tokens)}, of them ${count(used.cached_tokens)} from the provider's cache`],
    ["Tokens out", short(used.output_tokens), `${count(used.output_tokens)}, of them ${count(used.reasoning_tokens)} reasoning`],
    ["Calls", count(used.calls), `${many(used.calls, "answer")}, ${count(totals.failed_calls)} failed, ${count(totals.cache_hits)} from the cache`],
    ["Sessions", count(totals.sessions), "Each attempt counts"],
    ["Nodes", count(totals.nodes), `Down to depth ${totals.depth}`],
    ["Waited for a place", seconds(waits.queue.clock), `Time in which a call waited for a free place or the budget; ${summed(waits.queue, "call")}`],
    ["Waited for the rate", seconds(waits.rate.clock), `Time in which a call waited for the rate of the account; ${summed(waits.rate, "call")}`],
    ["Retries", count(used.retries), Object.entries(totals.tries).map(([kind, number]) => `${count(number)} ${kind}`).join(", ") || "None"],
    ["Failed nodes", count(errors), `${many(totals.failed_calls, "failed call")}, ${many(totals.cell_errors, "cell")} with an error, ${count(totals.killed_repls)} killed`, errors ? "bad" : ""],
    ["Lost", count(totals.lost_sessions), "Sessions whose actor died", totals.lost_sessions ? "bad" : ""],
  ];
}

const TALLY = ["", "Calls", "Retries", "Input", "Output", "Cached", "Cost", "Queue, sum", "Rate, sum"];

function tallyRow(name, tally) {
  return [name, count(tally.calls), count(tally.retries), count(tally.input_tokens), count(tally.output_tokens), count(tally.cached_tokens), cost(tally), seconds(tally.queue_wait_s), seconds(tally.rate_wait_s)];
}

export function tallies(title, tally, name = (key) => key) {
  const lines = Object.entries(tally).map(([key, value]) => tallyRow(name(key), value));
  return el("section", {}, el("h3", {}, title), lines.length ? wide(tableOf(TALLY, lines)) : el("p", { class: "note" }, "No call is recorded."));
}

const WAITED_FOR = [
  ["slot", "a free slot (CPU) for a session", "session"],
  ["queue", "a free place at the model, or the budget", "call"],
  ["rate", "the rate limit of the account", "call"],
  ["model", "a reply of a model", "call"],
];

// Much of it side by side: only the time on the clock can be compared with the time of the run.
export function waitsSection() {
  const lines = WAITED_FOR.filter(([kind]) => RUN.waits[kind].count).map(([kind, name, what]) => {
    const { clock, sum, count: number } = RUN.waits[kind];
    return [name, seconds(clock), share(clock, RUN.head.seconds), seconds(sum), many(number, what)];
  });
  if (!lines.length) return null;
  const table = tableOf(["Waited for", "On the clock", "Of the run", "Summed", "Over"], lines);
  return el("section", {}, el("h3", {}, "Waits"), el("p", { class: "note" }, `On the clock: time in which at least one waited, of ${seconds(RUN.head.seconds)}. Summed: each one's own wait, though many wait side by side.`), table);
}

// Rows of a batch and questions of a map have an answer each, and their root has none.
const isBatch = () => !RUN.head.answered && RUN.head.state === "answered" && COUNT > 0 && SIZE[0] > 1;

function questionsAsked() {
  const states = new Map();
  for (const node of childrenOf(0)) states.set(STATE[node], (states.get(STATE[node]) ?? 0) + 1);
  const ended = [...states].map(([state, number]) => `${count(number)} ${state}`);
  return `${many([...childrenOf(0)].length, "question")}: ${ended.join(", ")}`;
}

const ANSWERS = 50;

function answersSection() {
  const nodes = [...childrenOf(0)];
  const reply = ([row]) => (row === undefined ? "" : text(CALLS.text[row]));
  const answerOf = (node) => text(NODES.answer[node]) || text(NODES.error[node]) || reply(rowsOf(CALLS_OF, node));
  const lines = nodes.slice(0, ANSWERS).map((node) => [button(nameOf(node), () => select(node), { class: `link${BAD[node] ? " bad" : ""}` }), STATE[node], oneLine(text(NODES.query[node]), 120), oneLine(answerOf(node), 240)]);
  const rest = nodes.length - lines.length;
  return el("section", { class: "broad" }, el("h3", {}, "Answers"), el("p", { class: "note" }, questionsAsked()), tableOf(["Node", "State", "Question", "Answer"], lines), rest > 0 ? el("p", { class: "note" }, `and ${count(rest)} more, in Nodes`) : null);
}

export function answerSection() {
  const { head } = RUN;
  if (isBatch()) return answersSection();
  const why = head.why ? el("p", { class: "why" }, head.why) : null;
  const answer = head.answered ? withCitations(bounded(head.answer, { class: "answer" })) : why ? null : el("p", { class: "note" }, "No answer is recorded.");
  const stop = head.state === "answered" ? "" : ` · ${stateWords(head.state)}`;
  return el("section", { class: "broad" }, headed(el("h3", {}, `${head.answered ? "Answer" : "No answer"}${stop}`), head.answered ? copyButton("answer", head.answer) : null), why, answer);
}

// What the root cited, each place once, the last question's last.
function citedRows() {
  const seen = new Set();
  return [...rowsOf(CITATIONS_OF, 0)].filter((row) => {
    const key = `${CITATIONS.quote[row]} ${CITATIONS.place[row]}`;
    return !seen.has(key) && seen.add(key);
  });
}

// Quotes in the answer become links to the place where they stand.
function withCitations(box) {
  const pre = box.matches("pre") ? box : box.querySelector("pre");
  const rows = COUNT ? citedRows() : [];
  if (!pre || !rows.length) return box;
  for (const row of rows) {
    const quote = text(CITATIONS.quote[row]);
    for (const node of [...pre.childNodes]) {
      if (node.nodeType !== Node.TEXT_NODE) continue;
      const at = node.data.indexOf(quote);
      if (at < 0) continue;
      const found = node.splitText(at);
      found.splitText(quote.length);
      found.replaceWith(el("a", { class: "cited", href: `#cited-${row}`, title: text(CITATIONS.place[row]) }, el("mark", {}, quote)));
      break;
    }
  }
  return box;
}

export function citationsSection() {
  const rows = COUNT ? citedRows() : [];
  if (!rows.length) return null;
  const boxes = rows.map((row) => citationBox(row, button(`${text(CITATIONS.place[row])} · turn ${CITATIONS.turn[row]}`, () => select(0), { class: "link" }), `cited-${row}`));
  return el("section", { class: "broad" }, el("h3", {}, "Citations"), el("p", { class: "note" }, "Found in the context, word by word."), ...boxes);
}

export function questionSection() {
  return el("section", { class: "broad" }, el("h3", {}, "Question"), bounded(RUN.head.query, { class: "question" }));
}

export function runSection() {
  const { head } = RUN;
  const own = head.counted;
  const off = own.calls !== undefined && (own.calls !== RUN.totals.total.calls || Math.abs(own.cost_usd - RUN.totals.total.cost_usd) > 1e-6);
  const cut = RUN.texts.filter(Array.isArray).length;
  const list = facts([
    ["Run", head.run_id ? el("span", {}, head.run_id, " ", copyButton("run id", head.run_id)) : ""],
    ["Began", head.began ? new Date(head.began * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC" : ""],
    ["Model", head.model],
    ["Lives", head.resumes.length ? `${head.resumes.length + 1}, resumed at ${head.resumes.map(seconds).join(", ")}` : ""],
    ["rlm-ray", head.version],
    ["Left out", cut ? `the ends of ${many(cut, "long text")}` : "", "The journal has them whole"],
    ["The run itself counted", off ? `${count(own.calls)} calls, ${money(own.cost_usd ?? 0)}` : "", "These differ from the sums of the records"],
  ]);
  const settings = head.settings.length ? folding([el("b", {}, "Settings")], () => [bounded(head.settings)], false) : null;
  return el("section", {}, el("h3", {}, "Run"), list, settings);
}

export function troubleSection() {
  const found = [];
  for (let i = 0; i < COUNT && found.length < 200; i++) if (BAD[i]) found.push(i);
  if (!found.length) return null;
  const lines = found.slice(0, 12).map((node) => [button(nameOf(node), () => select(node), { class: "link bad" }), STATE[node], oneLine(text(NODES.error[node]) || lesserTrouble(node), 160)]);
  const more = found.length > 12 ? button("Show all in Nodes", showBad, { class: "link" }) : null;
  return el("section", {}, el("h3", {}, "What went wrong"), tableOf(["Node", "State", "Why"], lines), more);
}

function lesserTrouble(node) {
  for (const row of rowsOf(ATTEMPTS_OF, node)) if (text(ATTEMPTS.reason[row]) === "lost") return "an earlier attempt was lost";
  for (const row of rowsOf(CALLS_OF, node)) if (CALLS.error[row]) return `a call failed: ${text(CALLS.error[row])}`;
  return "the REPL was killed";
}

const STRIPS = 8;

function coverageSection() {
  const { total, given, read, unplaced, unplaced_chars: chars } = RUN.coverage;
  if (!total) return null;
  const spans = [];
  for (let i = 1; i < COUNT; i++) if (NODES.from[i] !== null) spans.push(i);
  const box = el("section", { class: "broad" }, el("h3", {}, "Context read"));
  const words = spans.length
    ? `Of ${count(total)} bytes, ${share(given, total)} went to sub-calls and ${share(read, total)} stood whole in the prompt of one that answered.`
    : "No sub-call was given a piece of the root's context by its place.";
  box.append(el("p", {}, words));
  if (unplaced) box.append(el("p", { class: "note" }, `Not placed: the texts of ${many(unplaced, "sub-call")} (${many(chars, "character")}), which are no slices of the context, or slices that were changed.`));
  return spans.length ? (box.append(coverageStrip(spans, total)), box) : box;
}

function coverageStrip(spans, total) {
  const canvas = el("canvas", { class: "coverage", tabindex: "0", role: "application", "aria-label": `Pieces of the context given to ${many(spans.length, "node")}. Left and right move from piece to piece, Enter opens.` });
  const ordered = spans.toSorted((a, b) => NODES.from[a] - NODES.from[b] || a - b);
  const box = el("div", { class: "coverage-box" }, canvas);
  const layers = Math.min(STRIPS, DEEPEST);
  const height = layers * 18 + 4;
  const layerOf = (node) => Math.min(layers, DEPTH[node]) - 1;
  const left = 118;
  const xOf = (at) => left + (at / total) * (box.clientWidth - left - 2);

  const layerName = (layer) => (layer + 1 === layers && DEEPEST > layers ? `depth ${layer + 1} and more` : `depth ${layer + 1}: ${share(RUN.coverage.by_depth[layer + 1] ?? 0, total)}`);

  function paint() {
    if (!box.clientWidth) return;
    const pen = sharp(canvas, box.clientWidth, height);
    for (let layer = 0; layer < layers; layer++) {
      pen.fillStyle = colours.hover;
      pen.fillRect(left, layer * 18 + 2, box.clientWidth - left, 15);
      pen.fillStyle = colours.dim;
      pen.fillText(layerName(layer), 0, layer * 18 + 10);
    }
    for (const node of spans) {
      pen.fillStyle = FELL[node] ? colours.error : depthColour(DEPTH[node]);
      const [x, end] = [xOf(NODES.from[node]), xOf(NODES.to[node])];
      const wide = Math.max(0.7, end - x - (end - x > 4 ? 1 : 0));
      pen.fillRect(x, layerOf(node) * 18 + 2, wide, 15);
      if (node === view.selected) {
        pen.strokeStyle = colours.select;
        pen.lineWidth = 2;
        pen.strokeRect(x, layerOf(node) * 18 + 3, Math.max(2, wide), 13);
      }
    }
  }

  function readers(event) {
    const bounds = canvas.getBoundingClientRect();
    const at = ((event.clientX - bounds.left - left) / (bounds.width - left - 2)) * total;
    const layer = Math.floor((event.clientY - bounds.top) / 18);
    const all = spans.filter((node) => NODES.from[node] <= at && at < NODES.to[node]);
    return { at, all, best: all.find((node) => layerOf(node) === layer) ?? all.at(-1) ?? -1 };
  }

  canvas.addEventListener("mousemove", (event) => {
    const { at, all } = readers(event);
    if (at < 0) return hideTip();
    const names = all.slice(0, 12).map((node) => `${nameOf(node)}  ${oneLine(text(NODES.query[node]), 60)}`);
    showTip(event, [`byte ${count(Math.floor(at))}: ${many(all.length, "reader")}`, ...names, all.length > 12 ? "…" : ""]);
  });
  canvas.addEventListener("mouseleave", hideTip);
  canvas.addEventListener("keydown", (event) => {
    const last = ordered.length - 1;
    const now = ordered.indexOf(view.selected);
    const next = { ArrowRight: Math.min(last, now + 1), ArrowLeft: Math.max(0, now - 1), Home: 0, End: last }[event.key];
    if (next !== undefined) select(ordered[next]);
    else if (event.key === "Enter") focusPane();
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("click", (event) => readers(event).best >= 0 && select(readers(event).best));
  new ResizeObserver(paint).observe(box);
  on("theme", paint);
  on("select", paint);
  return box;
}

export function makeOverview() {
  const body = el("div", { class: "scroller overview", tabindex: "0" });
  const parts = () => [answerSection(), citationsSection(), coverageSection(), waitsSection(), tallies("By model", RUN.totals.by_model), tallies("By depth", RUN.totals.by_depth, (depth) => `depth ${depth}`), troubleSection(), runSection(), questionSection()];
  body.append(...parts().filter(Boolean));
  return { label: "Overview", body: el("div", { class: "fill" }, body), paint() {}, focus: () => body.focus() };
}
