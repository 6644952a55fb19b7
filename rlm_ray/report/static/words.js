// Figures in words, and elements. Texts of the run only ever become text nodes.

import { RUN } from "./data.js";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
export const count = (value) => whole.format(value);

export function short(value) {
  if (value >= 999_500) return `${(value / 1e6).toFixed(value < 9.95e6 ? 2 : 1)}M`;
  if (value >= 9_999.5) return `${(value / 1e3).toFixed(value < 99_950 ? 1 : 0)}k`;
  return count(value);
}

export function seconds(value) {
  if (value === null || Number.isNaN(value)) return "–";
  if (value < 0.0005) return "0 s";
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 59.95) return `${value.toFixed(value < 9.995 ? 2 : 1)} s`;
  const total = Math.round(value);
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  if (hours) return `${count(hours)}h ${minutes}m`;
  return rest ? `${minutes}m ${rest}s` : `${minutes}m`;
}

export function money(value) {
  if (value === 0) return "$0";
  if (value > 0 && value < 1e-5) return "<$0.00001"; // as wide as a column of a table is
  return `$${value < 0.01 ? Number(value.toPrecision(2)).toFixed(Math.min(8, 1 - Math.floor(Math.log10(value)))) : value.toFixed(value < 1 ? 4 : 2)}`;
}

// What calls cost, as far as it is known.
export const cost = (tally) => (tally.unpriced ? (tally.cost_usd ? `${money(tally.cost_usd)}+` : "unknown") : money(tally.cost_usd));
export const share = (part, total) => (total > 0 ? `${((100 * part) / total).toFixed(part === total ? 0 : 1)} %` : "–");
export const oneLine = (value, most = 160) => value.slice(0, most * 2).replace(/\s+/g, " ").trim().slice(0, most);
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

export function el(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (name.startsWith("aria-") && typeof value === "boolean") made.setAttribute(name, `${value}`);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const button = (label, act, options = {}) => el("button", { type: "button", ...options, on: { click: act } }, label);

// A text of the run by its place, with a note where it had to be cut.
export function shown(place, options = {}) {
  return bounded(RUN.texts[place], options);
}

export function bounded(value, options = {}) {
  const [head, length] = typeof value === "string" ? [value, 0] : value;
  if (!head) return el("p", { class: "note" }, "It is not recorded.");
  const box = scrolling(el("pre", options, head));
  return length ? el("div", {}, box, el("p", { class: "note" }, cutNote(head.length, length))) : box;
}

// What scrolls takes the focus, so that keys can scroll it; what has room for all does not.
const sizes = typeof ResizeObserver === "undefined" ? null : new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const scrolls = target.scrollHeight > target.clientHeight + 1 || target.scrollWidth > target.clientWidth + 1;
    if (scrolls) target.tabIndex = 0;
    else if (target !== document.activeElement) target.removeAttribute("tabindex");
  }
});

export function scrolling(box) {
  sizes?.observe(box);
  return box;
}

export const wide = (table) => scrolling(el("div", { class: "wide" }, table));

const cutNote = (kept, length) => `The first ${count(kept)} of ${count(length)} characters; the journal has the rest.`;

// A button that copies a text; `known` is what is in the page of it, where its end had to be left out.
export function copyButton(what, value, label = "Copy") {
  const [known, length] = typeof value === "string" ? [value, 0] : value;
  const made = button(label, () => copy(known).then((done) => {
    made.textContent = done ? "Copied" : "Could not copy";
    document.getElementById("live").textContent = done ? `Copied the ${what}` : `Could not copy the ${what}`;
    setTimeout(() => (made.textContent = label), 1500);
  }), { class: "copy", "aria-label": `Copy the ${what}`, title: length ? cutNote(known.length, length) : null });
  return made;
}

async function copy(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    // A page from a file may not be allowed to: what is selected can be copied all the same.
    const box = document.body.appendChild(el("textarea", { class: "unseen", "aria-hidden": "true" }));
    box.value = value;
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    return done;
  }
}

export const headed = (head, ...buttons) => el("div", { class: "with-copy" }, head, ...buttons);

const FIGURE = /^[-+−$<]?[\d.,]+( ?[a-z%+]+( \d+[a-z]+)?)?$/i; // "1m 40s", "28.5 %", "105 calls" stay on one line
const LONG_WORD = /\S{25}/; // no other word is broken in the middle
const LONG_FACT = 20;

export function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [term, value, note] of pairs) {
    if (value === null || value === "") continue;
    const long = (value instanceof Node ? value.textContent : `${value}`).length > LONG_FACT;
    list.append(el("div", { title: note ?? null, class: long ? "long" : null }, el("dt", {}, term), el("dd", {}, value)));
  }
  return list;
}

export function tableOf(heads, rows, caption) {
  const head = el("tr", {}, ...heads.map((name) => el("th", { scope: "col" }, name)));
  const body = rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", { class: cell instanceof Node ? null : LONG_WORD.test(cell) ? "long" : FIGURE.test(cell) ? "figure" : null }, cell instanceof Node ? cell : `${cell}`))));
  return el("table", {}, caption ? el("caption", {}, caption) : null, el("thead", {}, head), el("tbody", {}, ...body));
}

export const pill = (state) => el("span", { class: `pill ${STATE_CLASS[state] ?? "stopped"}` }, stateWords(state));

// What stopped a run is a word of its settings: `cost_usd`, `max_iterations`.
export const stateWords = (state) => (!state || state in STATE_CLASS || state === "stopped" ? state : `stopped: ${state.replaceAll("_", " ")}`);
export const STATE_CLASS = { ok: "ok", answered: "ok", error: "error", lost: "error", cancelled: "error", unfinished: "unfinished" };
