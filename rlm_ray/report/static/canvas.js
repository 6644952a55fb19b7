// What the canvas views share: sharp pixels, colours of the theme, hatching, the tooltip.

import { KIND, NODES, SIZE, START, STATE, SUM, modelOf, nameOf, text, tookOf } from "./data.js";
import { count, el, many, money, oneLine, seconds } from "./words.js";

export let colours = {};

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "dim", "line", "panel", "hover", "select", "error", "warn", "queue", "rate", "code", "code-wait", "on-fill", "error-fill", "warn-fill"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  colours.depth = [0, 1, 2, 3, 4, 5].map((depth) => style.getPropertyValue(`--d${depth}`).trim());
}

export const depthColour = (depth) => colours.depth[depth % 6];
const FONT = '12px system-ui, -apple-system, "Segoe UI", sans-serif';

// The context of a canvas that fills its box; `width` and `height` are in CSS pixels.
export function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = FONT;
  pen.textBaseline = "middle";
  return pen;
}

export function hatch(pen, colour, gap = 5) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = gap;
  const ink = tile.getContext("2d");
  ink.strokeStyle = colour;
  ink.lineWidth = 1.2;
  for (const shift of [-gap, 0, gap]) {
    ink.moveTo(shift, gap);
    ink.lineTo(shift + gap, 0);
  }
  ink.stroke();
  return pen.createPattern(tile, "repeat");
}

// As much of a text as has room; measured by the mean width of a letter, which is near enough and fast.
export function write(pen, value, x, y, room) {
  const letters = Math.floor(room / 6);
  if (letters < 2) return;
  pen.fillText(value.length > letters ? `${value.slice(0, letters - 1)}…` : value, x, y, room);
}

// A canvas that stays in sight while its box scrolls over all it could show.
export function scrollCanvas(label) {
  const canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": label });
  const spacer = el("div", { class: "spacer" }, canvas);
  const box = el("div", { class: "scroller" }, spacer);
  return { canvas, spacer, box };
}

const tip = document.getElementById("tip");

export function showTip(event, lines) {
  tip.replaceChildren(...lines.filter(Boolean).map((line) => el("div", {}, line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const y = event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18;
  tip.style.left = `${Math.max(4, x)}px`;
  tip.style.top = `${Math.max(4, y)}px`;
}

export const hideTip = () => (tip.hidden = true);

export function tipOf(node) {
  const waits = SUM.queue[node] + SUM.rate[node];
  return [
    `${nameOf(node)} · ${KIND[node]} · ${STATE[node]}${modelOf(node) ? ` · ${modelOf(node)}` : ""}`,
    oneLine(text(NODES.query[node]), 140),
    `${seconds(tookOf(node))} from ${seconds(START[node])} · ${many(SUM.calls[node], "call")} · ${count(SUM.tokens[node])} tokens · ${money(SUM.cost[node])}`,
    SIZE[node] > 1 ? `${many(SIZE[node] - 1, "node")} below, counted in` : "",
    waits > 0 ? `waited ${seconds(SUM.queue[node])} in the queue, ${seconds(SUM.rate[node])} for the rate` : "",
    oneLine(text(NODES.error[node]), 200),
  ];
}
