// Two runs side by side: the one of this page, and another.

import { DATA, RUN } from "./data.js";
import { bounded, count, el, money, seconds, tableOf } from "./words.js";

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
  ["Queue", (run) => run.totals.total.queue_wait_s, seconds],
  ["Rate waits", (run) => run.totals.total.rate_wait_s, seconds],
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
  const box = el("pre", { class: "answer", tabindex: "0" });
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
