// The run over time: a row for each node, with its waits, the model at work, code running, and waiting for sub-calls.

import { ATTEMPTS, ATTEMPTS_OF, CALLS, CALLS_OF, CELLS, CELLS_OF, DEPTH, FELL, KIND, LAST, MAPS, MAPS_OF, NODES, RUN, START, STATE, endOf, nameOf, rowsOf, text, tookOf } from "./data.js";
import { button, el, many, oneLine, seconds } from "./words.js";
import { filtered, folded, hasTurner, matches, on, rowOf, rows, select, turn, view } from "./state.js";
import { colours, depthColour, hatch, hideTip, scrollCanvas, sharp, showTip, tipOf, write } from "./canvas.js";
import { foldButtons } from "./table.js";
import { focusPane } from "./pane.js";

const LINE = 19;
const AXIS = 24;
const LEGEND = [
  ["queue", "waits in the queue"],
  ["rate", "waits for the rate"],
  ["model", "model at work"],
  ["code", "code runs"],
  ["code-wait", "waits for sub-calls"],
  ["try", "attempt failed"],
  ["slip", "code failed"],
  ["lost", "session lost"],
  ["open", "no end recorded"],
];

export function makeTimeline() {
  const { canvas, spacer, box } = scrollCanvas("Timeline. Up and down select, left and right move in time, plus and minus zoom, 0 shows all, space folds.");
  const state = { from: 0, to: LAST, hover: -1, drag: null, moved: false };
  const gutter = () => Math.min(260, box.clientWidth * 0.3);
  const xOf = (at) => gutter() + ((at - state.from) / (state.to - state.from)) * (box.clientWidth - gutter());
  const timeAt = (x) => state.from + ((x - gutter()) / (box.clientWidth - gutter())) * (state.to - state.from);
  let hatches = {};

  function paint() {
    if (view.tab !== "timeline") return;
    const [width, height] = [box.clientWidth, box.clientHeight];
    spacer.style.height = `${Math.max(height, rows.length * LINE + AXIS)}px`;
    const pen = sharp(canvas, width, height);
    hatches = { queue: hatch(pen, colours.queue), rate: hatch(pen, colours.rate), };
    const first = Math.max(0, Math.floor(box.scrollTop / LINE));
    const last = Math.min(rows.length, Math.ceil((box.scrollTop + height) / LINE));
    grid(pen, width, height);
    for (let row = first; row < last; row++) line(pen, rows[row], AXIS + row * LINE - box.scrollTop, width);
    axis(pen, width);
  }

  function ticks(width) {
    const rough = ((state.to - state.from) * 110) / (width - gutter());
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const found = [];
    for (let at = Math.ceil(state.from / step) * step; at <= state.to; at += step) found.push(at);
    return found;
  }

  function grid(pen, width, height) {
    pen.fillStyle = colours.line;
    for (const at of ticks(width)) pen.fillRect(xOf(at), AXIS, 1, height);
    pen.fillStyle = colours.warn;
    for (const at of RUN.head.resumes) pen.fillRect(xOf(at), AXIS, 1.5, height);
  }

  function axis(pen, width) {
    pen.fillStyle = colours.panel;
    pen.fillRect(0, 0, width, AXIS);
    pen.fillStyle = colours.line;
    pen.fillRect(0, AXIS - 1, width, 1);
    pen.fillStyle = colours.dim;
    for (const at of ticks(width)) if (xOf(at) < width - 40) pen.fillText(at < 60 ? `${Number(at.toPrecision(6))} s` : seconds(at), xOf(at) + 4, AXIS / 2);
    for (const at of RUN.head.resumes) if (xOf(at) >= gutter()) pen.fillText("resumed", xOf(at) + 4, AXIS + 8);
  }

  function line(pen, node, y, width) {
    if (node === view.selected || node === state.hover) {
      pen.fillStyle = colours.hover;
      pen.fillRect(0, y, width, LINE);
    }
    pen.save();
    pen.beginPath();
    pen.rect(gutter(), y, width - gutter(), LINE);
    pen.clip();
    session(pen, node, y);
    for (const row of rowsOf(CELLS_OF, node)) cell(pen, row, y);
    for (const row of rowsOf(MAPS_OF, node)) bar(pen, MAPS.start[row], MAPS.end[row] ?? endOf(node), y + 5, LINE - 10, colours["code-wait"]);
    for (const row of rowsOf(CALLS_OF, node)) call(pen, node, row, y);
    for (const row of rowsOf(ATTEMPTS_OF, node)) lost(pen, row, y);
    pen.restore();
    caption(pen, node, y);
  }

  function caption(pen, node, y) {
    const x = indent(node);
    const dim = filtered() && !matches[node];
    pen.fillStyle = FELL[node] ? colours.error : depthColour(DEPTH[node]);
    if (hasTurner(node)) turner(pen, x + 3.5, y + LINE / 2, !folded[node] || filtered());
    else pen.fillRect(x, y + 6, 7, 7);
    pen.fillStyle = dim ? colours.dim : colours.ink;
    write(pen, `${nameOf(node)}  ${oneLine(text(NODES.query[node]), 80)}`, x + 12, y + LINE / 2, gutter() - x - 16);
    if (node === view.selected) {
      pen.fillStyle = colours.select;
      pen.fillRect(0, y, 3, LINE);
    }
  }

  const indent = (node) => 8 + (view.flat ? 0 : Math.min(DEPTH[node], 12) * 9);

  // A triangle that points down where the node is open.
  function turner(pen, x, y, open) {
    const corners = open ? [[-5, -3], [5, -3], [0, 5]] : [[-3, -5], [-3, 5], [5, 0]];
    pen.beginPath();
    for (const [right, down] of corners) pen.lineTo(x + right, y + down);
    pen.fill();
  }

  function bar(pen, from, to, y, height, fill) {
    const x = xOf(from);
    pen.fillStyle = fill;
    pen.fillRect(x, y, Math.max(1, xOf(to) - x), height);
  }

  // What has no end yet.
  function dashed(pen, from, y, height) {
    const x = Math.max(gutter() - 9, xOf(from));
    pen.strokeStyle = colours.select;
    pen.lineWidth = 1;
    pen.setLineDash([4, 3]);
    pen.strokeRect(x + 0.5, y + 0.5, xOf(LAST) - x + 9, height - 1);
    pen.setLineDash([]);
  }

  function session(pen, node, y) {
    if (KIND[node] === "leaf" || Number.isNaN(START[node])) return;
    pen.globalAlpha = 0.28;
    bar(pen, START[node], endOf(node), y + 2, LINE - 4, FELL[node] ? colours.error : depthColour(DEPTH[node]));
    pen.globalAlpha = 1;
    if (STATE[node] === "unfinished") dashed(pen, START[node], y + 2, LINE - 4);
  }

  function cell(pen, row, y) {
    bar(pen, CELLS.start[row], CELLS.end[row], y + 5, LINE - 10, colours.code);
    if (CELLS.error[row] || CELLS.killed[row]) mark(pen, CELLS.end[row], y, CELLS.killed[row] ? colours.error : colours.warn);
  }

  function call(pen, node, row, y) {
    const end = CALLS.end[row];
    const queued = CALLS.start[row] + CALLS.queue[row];
    const sent = queued + CALLS.rate[row];
    if (CALLS.queue[row]) bar(pen, CALLS.start[row], queued, y + 4, LINE - 8, hatches.queue);
    if (CALLS.rate[row]) bar(pen, queued, sent, y + 4, LINE - 8, hatches.rate);
    const fill = CALLS.error[row] ? colours.error : depthColour(DEPTH[node]);
    if (end === null) dashed(pen, sent, y + 4, LINE - 8);
    else bar(pen, sent, end, y + 4, LINE - 8, fill);
    for (const [at] of CALLS.tries[row] || []) mark(pen, at, y, colours.error);
  }

  function mark(pen, at, y, colour) {
    pen.fillStyle = colour;
    pen.fillRect(xOf(at) - 1, y + 1, 2, LINE - 2);
  }

  function lost(pen, row, y) {
    if (text(ATTEMPTS.reason[row]) !== "lost" || ATTEMPTS.end[row] === null) return;
    const x = xOf(ATTEMPTS.end[row]);
    pen.strokeStyle = colours.error;
    pen.lineWidth = 2;
    pen.beginPath();
    for (const side of [-1, 1]) {
      pen.moveTo(x - 4, y + LINE / 2 - 4 * side);
      pen.lineTo(x + 4, y + LINE / 2 + 4 * side);
    }
    pen.stroke();
  }

  // What a node does at a moment, in words.
  function doing(node, at) {
    for (const row of rowsOf(CALLS_OF, node)) {
      if (at < CALLS.start[row] || at > (CALLS.end[row] ?? LAST)) continue;
      const queued = CALLS.start[row] + CALLS.queue[row];
      if (at < queued) return `call ${CALLS.number[row]}: in the queue for ${seconds(CALLS.queue[row])}`;
      if (at < queued + CALLS.rate[row]) return `call ${CALLS.number[row]}: waits for the rate, ${seconds(CALLS.rate[row])}`;
      return `call ${CALLS.number[row]}: ${text(CALLS.model[row])} at work, ${seconds((CALLS.end[row] ?? LAST) - queued - CALLS.rate[row])}`;
    }
    for (const row of rowsOf(MAPS_OF, node)) {
      if (at >= MAPS.start[row] && at <= (MAPS.end[row] ?? endOf(node))) return `turn ${MAPS.turn[row]}: waits for ${many(MAPS.count[row], "sub-call")}`;
    }
    for (const row of rowsOf(CELLS_OF, node)) {
      if (at >= CELLS.start[row] && at <= CELLS.end[row]) return `turn ${CELLS.turn[row]}: code runs`;
    }
    return "";
  }

  function at(event) {
    const bounds = canvas.getBoundingClientRect();
    const y = event.clientY - bounds.top - AXIS;
    return { node: y < 0 ? -1 : (rows[Math.floor((y + box.scrollTop) / LINE)] ?? -1), x: event.clientX - bounds.left };
  }

  function show(from, to) {
    const least = LAST / 1e6;
    const span = Math.min(Math.max(to - from, least), LAST);
    state.from = Math.min(Math.max(0, from), LAST - span);
    state.to = state.from + span;
    paint();
  }

  function zoom(factor, around = (state.from + state.to) / 2) {
    show(around - (around - state.from) * factor, around + (state.to - around) * factor);
  }

  const pan = (part) => show(state.from + part * (state.to - state.from), state.to + part * (state.to - state.from));
  const fit = () => show(0, LAST);
  const fitNode = (node) => show(START[node] - tookOf(node) * 0.05, endOf(node) + tookOf(node) * 0.05);

  function scrollTo(node) {
    const y = rowOf[node] * LINE;
    if (rowOf[node] < 0) return;
    if (y < box.scrollTop || y + LINE * 2 + AXIS > box.scrollTop + box.clientHeight) box.scrollTop = y - box.clientHeight / 3;
  }

  function keys(event) {
    const now = rowOf[view.selected] ?? -1;
    const acts = {
      ArrowDown: () => rows.length && select(rows[Math.min(rows.length - 1, now + 1)]),
      ArrowUp: () => rows.length && select(rows[Math.max(0, now - 1)]),
      ArrowLeft: () => pan(-0.2),
      ArrowRight: () => pan(0.2),
      "+": () => zoom(0.6),
      "=": () => zoom(0.6),
      "-": () => zoom(1.6),
      0: fit,
      " ": () => turn(view.selected),
      Enter: focusPane,
    };
    if (!acts[event.key]) return;
    acts[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }

  canvas.addEventListener("keydown", keys);
  canvas.addEventListener("pointerdown", (event) => {
    state.drag = { x: event.clientX, from: state.from, to: state.to };
    state.moved = false;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (state.drag && event.buttons) {
      const by = ((state.drag.x - event.clientX) / (box.clientWidth - gutter())) * (state.drag.to - state.drag.from);
      state.moved ||= Math.abs(state.drag.x - event.clientX) > 4;
      if (state.moved) show(state.drag.from + by, state.drag.to + by);
      return;
    }
    const { node, x } = at(event);
    if (node < 0) hideTip();
    else showTip(event, [...tipOf(node), x > gutter() ? doing(node, timeAt(x)) : ""]);
    if (node !== state.hover) {
      state.hover = node;
      paint();
    }
  });
  canvas.addEventListener("pointerleave", () => {
    hideTip();
    state.hover = -1;
    paint();
  });
  canvas.addEventListener("click", (event) => {
    const { node, x } = at(event);
    state.drag = null;
    if (state.moved || node < 0) return;
    if (hasTurner(node) && Math.abs(x - indent(node) - 3.5) < 7) turn(node);
    else select(node);
  });
  canvas.addEventListener("dblclick", (event) => at(event).node >= 0 && fitNode(at(event).node));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    zoom((event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8, timeAt(at(event).x));
  }, { passive: false });
  box.addEventListener("scroll", paint);
  on("rows", paint);
  on("select", (node) => {
    if (view.tab !== "timeline") return;
    if (node >= 0) scrollTo(node);
    paint();
  });
  const legend = el("span", { class: "legend" }, ...LEGEND.map(([name, label]) => el("span", {}, el("i", { class: `swatch ${name}` }), label)));
  const zooms = el("span", { class: "choice" }, button("Fit", fit, { title: "Show all (0)" }), button("+", () => zoom(0.6), { "aria-label": "Zoom in" }), button("−", () => zoom(1.6), { "aria-label": "Zoom out" }), button("Node", () => view.selected >= 0 && fitNode(view.selected), { title: "Show the time of the selected node" }));
  return { label: "Timeline", body: el("div", { class: "fill" }, el("div", { class: "bar" }, zooms, foldButtons(), legend), box), paint, scrollTo, focus: () => canvas.focus() };
}
