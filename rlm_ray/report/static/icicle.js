// The tree as an icicle: below each node what it sent out, as wide as its share of time, cost or tokens.

import { BAD, COUNT, DEEPEST, DEPTH, FELL, NODES, SIZE, STATE, SUM, childrenOf, nameOf, text } from "./data.js";
import { button, count, el, money, oneLine, seconds, share } from "./words.js";
import { filtered, matches, on, select, view } from "./state.js";
import { colours, depthColour, hatch, hideTip, scrollCanvas, sharp, showTip, tipOf, write } from "./canvas.js";

const METRICS = {
  busy: { label: "Time", note: "Time at work, summed: nodes that worked side by side add up", words: seconds },
  cost: { label: "Cost", note: "US dollars, where the price is known", words: money },
  tokens: { label: "Tokens", note: "Input and output tokens", words: (value) => `${count(value)} tokens` },
};
const LAYER_LEAST = 21;
const LAYER_MOST = 44; // two lines: what was asked, and the figure

export function makeIcicle() {
  const { canvas, spacer, box } = scrollCanvas("Icicle of the tree. Arrows move, Enter zooms in, Escape zooms out.");
  const trail = el("span", { class: "trail" });
  const note = el("span", { class: "note" });
  const metrics = el("span", { class: "choice", role: "radiogroup", "aria-label": "Width" });
  const state = { metric: "busy", zoom: 0, hover: -1, left: null };

  function layOut() {
    const total = SUM[state.metric];
    const left = new Float64Array(COUNT);
    for (let i = 0; i < COUNT; i++) {
      let x = left[i];
      for (const child of childrenOf(i)) {
        left[child] = x;
        x += total[child];
      }
    }
    state.left = left;
  }

  const tall = () => Math.max(LAYER_LEAST, Math.min(LAYER_MOST, Math.floor(box.clientHeight / (DEEPEST + 1))));

  // Where a node is drawn: [x, width] in pixels.
  function place(node, width) {
    const total = SUM[state.metric];
    const scale = width / (total[state.zoom] || 1);
    return [(state.left[node] - state.left[state.zoom]) * scale, total[node] * scale];
  }

  function colour(node) {
    if (FELL[node]) return colours["error-fill"];
    if (STATE[node] === "stopped") return colours["warn-fill"];
    return depthColour(DEPTH[node]);
  }

  function paint() {
    if (view.tab !== "icicle") return;
    const [width, height] = [box.clientWidth, box.clientHeight];
    const pen = sharp(canvas, width, height);
    spacer.style.height = `${Math.max(height, (DEEPEST + 1) * tall())}px`;
    const top = box.scrollTop;
    const high = tall();
    const unfinished = hatch(pen, colours.panel);
    const painted = new Float64Array(DEEPEST + 1).fill(-1);
    const dimmed = filtered();
    let i = 0;
    while (i < COUNT) {
      const [x, wide] = place(i, width);
      const y = DEPTH[i] * high - top;
      const visible = wide > 0 && x + wide > 0 && x < width;
      if (!visible || y > height || (wide < 1 && Math.floor(x) <= painted[DEPTH[i]])) {
        i += SIZE[i];
        continue;
      }
      painted[DEPTH[i]] = Math.floor(Math.min(width, x + wide));
      if (y > -high) layer(pen, i, Math.max(0, x), Math.min(width, x + wide), y, { high, dimmed, unfinished });
      i += 1;
    }
    note.textContent = SUM[state.metric][0] > 0 ? `${METRICS[state.metric].note}. Colours: depth; red: failed; hatched: no end recorded` : `No ${METRICS[state.metric].label.toLowerCase()} is recorded for this run`;
  }

  function layer(pen, node, from, to, y, { high, dimmed, unfinished }) {
    const wide = Math.max(1, to - from - (to - from > 3 ? 1 : 0));
    pen.globalAlpha = dimmed && !matches[node] ? 0.25 : 1;
    pen.fillStyle = colour(node);
    pen.fillRect(from, y, wide, high - 1);
    if (STATE[node] === "unfinished") {
      pen.fillStyle = unfinished;
      pen.fillRect(from, y, wide, high - 1);
    }
    if (BAD[node] && wide > 3) {
      pen.fillStyle = colours.error;
      pen.fillRect(from, y, 3, high - 1);
    }
    if (wide > 26) {
      pen.fillStyle = colours["on-fill"];
      const twice = high >= 36;
      write(pen, `${nameOf(node)}  ${oneLine(text(NODES.query[node]), 200)}`, from + 6, y + (twice ? high * 0.3 : high / 2), wide - 10);
      if (twice) write(pen, METRICS[state.metric].words(SUM[state.metric][node]), from + 6, y + high * 0.7, wide - 10);
    }
    pen.globalAlpha = 1;
    if (node === view.selected || node === state.hover) {
      pen.strokeStyle = node === view.selected ? colours.select : colours.ink;
      pen.lineWidth = node === view.selected ? 2 : 1;
      pen.strokeRect(from + 1, y + 1, Math.max(1, wide - 2), high - 3);
    }
  }

  function at(event) {
    const bounds = canvas.getBoundingClientRect();
    const width = box.clientWidth;
    const [x, depth] = [event.clientX - bounds.left, Math.floor((event.clientY - bounds.top + box.scrollTop) / tall())];
    let node = 0;
    for (let d = 0; d < depth; d++) {
      let inside = -1;
      for (const child of childrenOf(node)) {
        const [left, wide] = place(child, width);
        if (x >= left && x < left + Math.max(wide, 0.5)) inside = child;
        if (left > x) break;
      }
      if (inside < 0) return -1;
      node = inside;
    }
    return node;
  }

  function zoom(node) {
    state.zoom = node;
    const climb = [];
    for (let i = node; i >= 0; i = NODES.parent[i]) climb.unshift(i);
    const steps = climb.length > 6 ? [climb[0], ...climb.slice(-4)] : climb;
    trail.replaceChildren(...steps.map((i) => button(nameOf(i), () => zoom(i), { "aria-current": i === node ? "true" : null })));
    scrollTo(node);
    paint();
  }

  function scrollTo(node) {
    const y = DEPTH[node] * tall();
    if (y < box.scrollTop || y + tall() > box.scrollTop + box.clientHeight) box.scrollTop = y - box.clientHeight / 3;
  }

  function sibling(node, step) {
    if (node <= 0) return node;
    const all = [...childrenOf(NODES.parent[node])];
    return all[all.indexOf(node) + step] ?? node;
  }

  function keys(event) {
    const now = Math.max(0, view.selected);
    const moves = { ArrowUp: () => Math.max(0, NODES.parent[now]), ArrowDown: () => (SIZE[now] > 1 ? now + 1 : now), ArrowLeft: () => sibling(now, -1), ArrowRight: () => sibling(now, 1) };
    if (moves[event.key]) {
      select(view.selected < 0 ? 0 : moves[event.key]());
    } else if (event.key === "Enter") {
      zoom(state.zoom === now ? 0 : now);
    } else if (event.key === "Escape" && state.zoom > 0) {
      zoom(NODES.parent[state.zoom]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function choose(metric) {
    state.metric = metric;
    for (const item of metrics.children) item.setAttribute("aria-checked", item.dataset.metric === metric);
    layOut();
    paint();
  }

  for (const [name, { label, note: title }] of Object.entries(METRICS)) {
    metrics.append(button(label, () => choose(name), { role: "radio", title, "data-metric": name }));
  }
  canvas.addEventListener("mousemove", (event) => {
    const node = at(event);
    if (node < 0) hideTip();
    else showTip(event, [...tipOf(node), `${METRICS[state.metric].words(SUM[state.metric][node])}, ${share(SUM[state.metric][node], SUM[state.metric][0])} of the run`]);
    if (node !== state.hover) {
      state.hover = node;
      paint();
    }
  });
  canvas.addEventListener("mouseleave", () => {
    hideTip();
    state.hover = -1;
    paint();
  });
  canvas.addEventListener("click", (event) => {
    const node = at(event);
    if (node < 0) return;
    select(node);
    zoom(node);
  });
  canvas.addEventListener("keydown", keys);
  box.addEventListener("scroll", paint);
  on("select", (node) => {
    if (view.tab !== "icicle") return;
    if (node < 0) return paint();
    const inside = node >= state.zoom && node < state.zoom + SIZE[state.zoom];
    if (!inside && !isAbove(node, state.zoom)) zoom(0);
    scrollTo(node);
    paint();
  });
  choose("busy");
  zoom(0);
  const bar = el("div", { class: "bar" }, metrics, trail, note);
  return { label: "Icicle", body: el("div", { class: "fill" }, bar, box), paint, scrollTo, focus: () => canvas.focus() };
}

const isAbove = (upper, lower) => upper <= lower && lower < upper + SIZE[upper];
