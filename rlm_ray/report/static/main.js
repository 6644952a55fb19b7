// Tabs, filters, theme, keys and paper.

import { COUNT, DATA, DEEPEST, DEPTH, NODES, RUN, nameOf, nodeAt, pathOf, text } from "./data.js";
import { button, count, el, many, oneLine, tableOf } from "./words.js";
import { arrange, filter, filtered, foldAtFirst, low, matched, on, refilter, rows, select, tell, view } from "./state.js";
import { readColours } from "./canvas.js";
import { makeIcicle } from "./icicle.js";
import { makeTimeline } from "./timeline.js";
import { COLUMNS, cellsOf, makeTable } from "./table.js";
import { closePane } from "./pane.js";
import { answerSection, makeCompare, makeOverview, paintHead, questionSection, runSection, tallies, troubleSection, waitsSection } from "./overview.js";

export const VIEWS = {};
const THEMES = ["auto", "light", "dark"];

export function themeButton() {
  const root = document.documentElement;
  const label = () => `Theme: ${root.dataset.theme}`;
  const made = button(label(), () => {
    setTheme(THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length]);
    made.textContent = label();
  }, { id: "theme" });
  return made;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("rlm-ray-theme", theme);
  } catch {
    // A page from a file may have no storage; the choice then lasts as long as the page.
  }
  readColours();
  tell("theme");
  VIEWS[view.tab]?.paint();
}

function storedTheme() {
  try {
    const theme = localStorage.getItem("rlm-ray-theme");
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto";
  }
}

function show(tab) {
  view.tab = tab;
  for (const [name, { body, tabButton }] of Object.entries(VIEWS)) {
    body.hidden = name !== tab;
    tabButton.setAttribute("aria-selected", name === tab);
    tabButton.tabIndex = name === tab ? 0 : -1;
  }
  document.body.dataset.view = tab;
  document.getElementById("filters").hidden = tab === "overview" || tab === "compare";
  VIEWS[tab].paint();
  if (view.selected >= 0) VIEWS[tab].scrollTo?.(view.selected);
}

function addView(name, { label, ...parts }) {
  const tabButton = button(label, () => show(name), { role: "tab", id: `tab-${name}`, "aria-controls": `view-${name}` });
  parts.body.setAttribute("role", "tabpanel");
  parts.body.id = `view-${name}`;
  parts.body.setAttribute("aria-labelledby", `tab-${name}`);
  VIEWS[name] = { ...parts, tabButton };
  document.getElementById("tabs").append(tabButton);
  document.getElementById("views").append(parts.body);
}

export function showBad() {
  filter.bad = true;
  document.getElementById("only-bad").checked = true;
  refilterAndSay();
  show("nodes");
}

function refilterAndSay() {
  refilter();
  document.getElementById("found").textContent = filtered() ? `${count(matched)} of ${count(COUNT)}` : `${many(COUNT, "node")}`;
  VIEWS[view.tab].paint();
}

function picker(label, values, change) {
  const options = [el("option", { value: "-1" }, label), ...values.map(([value, name]) => el("option", { value }, name))];
  return el("select", { "aria-label": label, on: { change: (event) => { change(Number(event.target.value)); refilterAndSay(); } } }, ...options);
}

function makeFilters() {
  const models = [...new Set(NODES.model)].filter((place) => text(place)).map((place) => [place, text(place)]);
  const depths = Array.from({ length: DEEPEST + 1 }, (_, depth) => [depth, `depth ${depth}`]);
  const search = el("input", { id: "search", type: "search", placeholder: "Search all texts  ( / )", "aria-label": "Search questions, replies, code, output and errors", on: {
    input: (event) => {
      filter.search = event.target.value.trim();
      refilterAndSay();
    },
  } });
  const bad = el("input", { id: "only-bad", type: "checkbox", on: { change: (event) => { filter.bad = event.target.checked; refilterAndSay(); } } });
  const cost = el("input", { id: "min-cost", type: "number", min: "0", step: "any", placeholder: "min $", "aria-label": "Least cost in dollars, with all below", on: { input: (event) => { filter.cost = Number(event.target.value) || 0; refilterAndSay(); } } });
  document.getElementById("filters").append(search, el("label", {}, bad, " errors only"), picker("all depths", depths, (depth) => (filter.depth = depth)), picker("all models", models, (model) => (filter.model = model)), cost, el("span", { id: "found", class: "note" }, many(COUNT, "node")));
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
}

function tabKeys(event) {
  const names = Object.keys(VIEWS);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  show(names[(names.indexOf(view.tab) + step + names.length) % names.length]);
  VIEWS[view.tab].tabButton.focus();
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (event.key === "Escape") return escape(event, typing);
  if (typing) return event.key === "Enter" && VIEWS[view.tab].focus();
  const tab = Object.keys(VIEWS)[Number(event.key) - 1];
  if (event.key === "/") {
    event.preventDefault();
    if (document.getElementById("filters").hidden) show("nodes");
    document.getElementById("search").focus();
  } else if (tab) {
    show(tab);
    VIEWS[tab].focus();
  }
}

function escape(event, typing) {
  if (typing) {
    const search = document.getElementById("search");
    if (search.value) {
      search.value = filter.search = "";
      refilterAndSay();
    } else VIEWS[view.tab].focus();
  } else if (view.selected >= 0) closePane();
}

const NODE_LINK = "#node=";

// A link to a node opens it in the table; the address then names what is selected.
function followLink() {
  if (!location.hash.startsWith(NODE_LINK)) return;
  const node = nodeAt(decodedPath());
  if (node < 0) {
    document.getElementById("live").textContent = "The link names no node of this run";
    return;
  }
  if (node === view.selected) return;
  if (view.tab === "overview" || view.tab === "compare") show("nodes");
  select(node);
}

function decodedPath() {
  try {
    return decodeURIComponent(location.hash.slice(NODE_LINK.length));
  } catch {
    return ""; // no link of ours
  }
}

function nameInAddress(node) {
  if (node < 0 && !location.hash.startsWith(NODE_LINK)) return;
  const hash = node < 0 ? "" : `${NODE_LINK}${pathOf(node)}`;
  history.replaceState(null, "", `${location.href.split("#")[0]}${hash}`);
}

const PAPER_ROWS = 200;

function paintPaper() {
  const lines = [...rows.slice(0, PAPER_ROWS)].map((node) => [`${"\u2003".repeat(Math.min(DEPTH[node], 12))}${nameOf(node)} ${oneLine(text(NODES.query[node]), 70)}`, ...cellsOf(node)]);
  const left = rows.length - lines.length;
  const parts = [questionSection(), answerSection(), waitsSection(), tallies("By model", RUN.totals.by_model), tallies("By depth", RUN.totals.by_depth, (depth) => `depth ${depth}`), troubleSection(), el("section", {}, el("h3", {}, "Nodes"), el("div", { class: "listing" }, tableOf(COLUMNS.map(([, label]) => label), lines)), left > 0 ? el("p", { class: "note" }, `${many(left, "more node")} not printed`) : null), runSection()];
  document.getElementById("paper").replaceChildren(...parts.filter(Boolean));
}

function start() {
  document.documentElement.dataset.theme = storedTheme();
  readColours();
  paintHead();
  makeFilters();
  foldAtFirst();
  arrange();
  addView("overview", makeOverview());
  addView("icicle", makeIcicle());
  addView("timeline", makeTimeline());
  addView("nodes", makeTable());
  if (DATA.other) addView("compare", makeCompare());
  tell("rows");
  show("overview");
  document.getElementById("tabs").addEventListener("keydown", tabKeys);
  document.addEventListener("keydown", keys);
  new ResizeObserver(() => VIEWS[view.tab].paint()).observe(document.getElementById("views"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(document.documentElement.dataset.theme));
  matchMedia("print").addEventListener("change", (change) => change.matches && paintPaper());
  addEventListener("beforeprint", paintPaper);
  on("select", nameInAddress);
  addEventListener("hashchange", followLink);
  followLink();
  (window.requestIdleCallback ?? setTimeout)(() => low());
}

start();
