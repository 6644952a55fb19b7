// The tree as a table. Only the rows in sight are in the document.

import { BAD, COUNT, DEPTH, FELL, NODES, START, STATE, SUM, modelOf, nameOf, text, tookOf } from "./data.js";
import { STATE_CLASS, button, count, el, money, oneLine, seconds, short } from "./words.js";
import { arrange, filtered, fold, foldAll, folded, hasTurner, matches, on, rowOf, rows, select, sortBy, turn, view } from "./state.js";
import { focusPane } from "./pane.js";

const ROW = 26;
export const COLUMNS = [
  ["tree", "Node", ""],
  ["state", "State", "opt"],
  ["model", "Model", "opt late"],
  ["start", "Start", "num opt late"],
  ["took", "Took", "num"],
  ["calls", "Calls", "num"],
  ["tokens", "Tokens", "num"],
  ["cost", "Cost", "num"],
  ["waits", "Waits, sum", "num opt"],
  ["retries", "Retries", "num opt"],
];

export function cellsOf(node) {
  return [
    STATE[node],
    modelOf(node),
    seconds(START[node]),
    seconds(tookOf(node)),
    count(SUM.calls[node]),
    short(SUM.tokens[node]),
    money(SUM.cost[node]),
    seconds(SUM.queue[node] + SUM.rate[node]),
    count(SUM.retries[node]),
  ];
}

export const foldButtons = () => el("span", { class: "choice" }, button("Unfold all", () => foldAll(false)), button("Fold all", () => foldAll(true)));

export function makeTable() {
  const head = el("div", { class: "row heads", role: "row" });
  const body = el("div", { class: "rows", role: "rowgroup" });
  const box = el("div", { class: "scroller", tabindex: "0", role: "treegrid", "aria-label": "Nodes. Arrows move, left and right fold, Enter opens." }, el("div", { role: "rowgroup", class: "sticky" }, head), body);
  const flat = el("input", { type: "checkbox", on: { change: (event) => { view.flat = event.target.checked; arrange(); } } });

  function paintHeads() {
    head.replaceChildren(...COLUMNS.map(([key, label, kind]) => {
      const sorted = view.sort === key ? (view.descending ? "descending" : "ascending") : "none";
      const arrow = sorted === "none" ? "" : key === "tree" ? (view.descending ? " ↧" : " ↥") : view.descending ? " ▾" : " ▴";
      return el("div", { class: kind, role: "columnheader", "aria-sort": sorted }, button(label + arrow, () => sortBy(key), { title: key === "tree" ? "In the order they were asked" : `${label} of a node with all below it` }));
    }));
  }

  function rowAt(row) {
    const node = rows[row];
    const open = !folded[node] || (filtered() && !view.flat);
    const parent = hasTurner(node);
    const kind = `row${filtered() && !matches[node] ? " aside" : ""}`;
    const turner = el("span", { class: "turner", "aria-hidden": "true" }, parent ? (open ? "▾" : "▸") : "");
    const first = el("div", { class: "tree", role: "gridcell" }, turner, el("i", { class: `dot d${DEPTH[node] % 6}${FELL[node] ? " bad" : BAD[node] ? " hurt" : ""}` }), el("b", {}, nameOf(node)), el("span", {}, oneLine(text(NODES.query[node]))));
    first.style.paddingLeft = `${6 + (view.flat ? 0 : Math.min(DEPTH[node], 24)) * 13}px`;
    const made = el("div", { class: kind, role: "row", id: `row-${node}`, "data-node": node, "aria-level": DEPTH[node] + 1, "aria-rowindex": row + 2, "aria-expanded": parent ? open : null }, first);
    cellsOf(node).forEach((value, column) => {
      const mark = column === 0 ? ` state-${STATE_CLASS[value] ?? "stopped"}` : "";
      made.append(el("div", { class: COLUMNS[column + 1][2] + mark, role: "gridcell" }, value));
    });
    made.style.top = `${row * ROW}px`;
    return made;
  }

  function paint() {
    if (view.tab !== "nodes") return;
    body.style.height = `${rows.length * ROW}px`;
    box.setAttribute("aria-rowcount", rows.length + 1);
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 4);
    const last = Math.min(rows.length, first + Math.ceil(box.clientHeight / ROW) + 8);
    const made = [];
    for (let row = first; row < last; row++) made.push(rowAt(row));
    body.replaceChildren(...made);
    mark();
  }

  // Which of the rows that are there is selected.
  function mark() {
    box.removeAttribute("aria-activedescendant");
    for (const row of body.children) {
      const selected = Number(row.dataset.node) === view.selected;
      row.classList.toggle("selected", selected);
      row.setAttribute("aria-selected", selected);
      if (selected) box.setAttribute("aria-activedescendant", row.id);
    }
  }

  function scrollTo(node) {
    const y = rowOf[node] * ROW;
    if (rowOf[node] < 0) return;
    if (y < box.scrollTop) box.scrollTop = y;
    else if (y + 3 * ROW > box.scrollTop + box.clientHeight) box.scrollTop = y + 3 * ROW - box.clientHeight;
  }

  function move(step) {
    if (!rows.length) return;
    const now = view.selected < 0 ? -1 : rowOf[view.selected];
    select(rows[Math.min(rows.length - 1, Math.max(0, now + step))]);
  }

  function keys(event) {
    const node = view.selected;
    const page = Math.max(1, Math.floor(box.clientHeight / ROW) - 2);
    const parent = hasTurner(node);
    const acts = {
      ArrowDown: () => move(1),
      ArrowUp: () => move(-1),
      PageDown: () => move(page),
      PageUp: () => move(-page),
      Home: () => move(-COUNT),
      End: () => move(COUNT),
      ArrowRight: () => (parent && folded[node] ? fold(node, false) : parent && move(1)),
      ArrowLeft: () => (parent && !folded[node] ? fold(node, true) : node > 0 && select(NODES.parent[node])),
      " ": () => turn(node),
      Enter: focusPane,
    };
    if (!acts[event.key] || event.target.closest("button")) return;
    acts[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }

  box.addEventListener("keydown", keys);
  body.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    const node = Number(row.dataset.node);
    if (event.target.closest(".turner")) turn(node);
    else select(node);
  });
  let waiting = false;
  box.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      paint();
    });
  });
  on("rows", () => {
    paintHeads();
    paint();
  });
  on("select", (node) => {
    if (view.tab !== "nodes") return;
    const before = box.scrollTop;
    if (node >= 0) scrollTo(node);
    if (box.scrollTop === before) mark();
    else paint();
  });
  const bar = el("div", { class: "bar" }, foldButtons(), el("label", {}, flat, " one flat list"), el("span", { class: "note" }, "Figures of a node count all that is below it; waits are summed over calls that may wait side by side"));
  return { label: "Nodes", body: el("div", { class: "fill table" }, bar, box), paint, scrollTo, focus: () => box.focus() };
}
