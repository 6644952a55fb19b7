// Ask, watch, open the report.

import { Client, Refused } from "./client.js";
import { Tree } from "./tree.js";

const KEY = "rlm_ray.key";
const WORDS = {
  running: "Running",
  answered: "Answered",
  stopped: "Stopped by a limit",
  cancelled: "Cancelled",
  failed: "Failed",
};
const NO_KEY = "Enter your key; whoever runs this service gives you one.";
const UNKNOWN_KEY = "This service does not know the key; check it.";
const at = (id) => document.getElementById(id);
const client = new Client();
let now = null; // the run that is shown

function show(id, visible) {
  at(id).hidden = !visible;
}

function say(text) {
  at("notice").textContent = text;
  show("notice", Boolean(text));
  if (text) at("notice").scrollIntoView({ block: "nearest" });
}

async function loadModels() {
  const { data } = await client.json("v1/models");
  at("model").replaceChildren(...data.map(({ id }) => new Option(id, id)));
}

async function start() {
  client.key = sessionStorage.getItem(KEY) ?? "";
  at("key").value = client.key;
  show("key-row", Boolean(client.key));
  await attempt(loadAll);
}

async function loadAll() {
  await loadModels();
  await loadHistory();
}

async function attempt(work) {
  say("");
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    const strange = error instanceof Refused && error.status === 401;
    if (strange) show("key-row", true);
    say(strange ? (client.key ? UNKNOWN_KEY : NO_KEY) : error.message);
  } finally {
    at("progress").textContent = "";
  }
}

function useKey() {
  client.key = at("key").value.trim();
  sessionStorage.setItem(KEY, client.key);
  now?.abort.abort(); // what another key asked is not for this one
  now = null;
  for (const id of ["run", "history"]) show(id, false);
  return attempt(loadAll);
}

async function ask() {
  const ids = await upload([...at("files").files]);
  at("progress").textContent = "Starting …";
  const context = at("context").value;
  const run = await client.post("v1/runs", {
    model: at("model").value,
    query: at("query").value,
    file_ids: ids,
    ...(context ? { context } : {}),
  });
  at("progress").textContent = "";
  await watch(run);
}

async function upload(files) {
  const ids = [];
  for (const [place, file] of files.entries()) {
    at("progress").textContent = `Sending ${file.name} (${place + 1} of ${files.length}) …`;
    try {
      ids.push((await client.upload(file)).id);
    } catch (error) {
      if (error instanceof Refused && error.status >= 400 && error.status !== 401 && !error.message.includes(file.name)) error.message = `${file.name}: ${error.message}`;
      throw error;
    }
  }
  return ids;
}

async function watch(run) {
  now?.abort.abort();
  const mine = { id: run.id, abort: new AbortController(), tree: new Tree(at("tree")) };
  now = mine;
  show("run", true);
  show("answer-box", false);
  show("report", false);
  markCurrent();
  figures(mine.tree, run);
  shown(run);
  at("run").scrollIntoView({ block: "nearest" });
  for await (const record of client.events(run.id, mine.abort.signal)) {
    mine.tree.add(record);
    figures(mine.tree, run);
  }
  if (now !== mine) return;
  const ended = await client.json(`v1/runs/${run.id}`);
  if (now !== mine) return;
  figures(mine.tree, ended);
  shown(ended);
  await loadHistory();
}

function figures(tree, run) {
  const parts = [[tree.sessions, "session"], [tree.calls, "call"], [tree.tokens, "token"]].map(([count, word]) => many(count, word));
  if (tree.cost) parts.push(`$${tree.cost.toFixed(tree.cost < 1 ? 4 : 2)}${run.state === "running" ? " so far" : ""}`);
  if (run.seconds) parts.push(`${run.seconds.toFixed(1)} s`);
  at("figures").textContent = tree.sessions + tree.calls ? parts.join(" · ") : run.state === "running" ? "waiting for its first call" : "";
  at("undrawn").textContent = `${many(tree.undrawn, "more line")} not drawn; the report has all.`;
  show("undrawn", tree.undrawn > 0);
}

const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

// What this key asked last; one of them is shown, and watched where it still runs.
async function loadHistory() {
  const { data } = await client.json("v1/runs?limit=10");
  const focused = document.activeElement.dataset.run;
  at("runs").replaceChildren(...data.map(entry));
  markCurrent();
  if (focused) runButtons().find((button) => button.dataset.run === focused)?.focus();
  show("history", data.length > 0);
}

const runButtons = () => [...at("runs").querySelectorAll("button")];

function markCurrent() {
  for (const button of runButtons()) {
    if (button.dataset.run === now?.id) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

function entry(run) {
  const button = made("button", { type: "button", title: run.query }, run.query);
  button.dataset.run = run.id;
  button.addEventListener("click", () => attempt(() => watch(run)));
  const when = new Date(run.created_at * 1000).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  const state = made("span", {}, made("span", { className: `mark ${run.state}` }), ` ${WORDS[run.state]}`);
  return made("li", {}, button, state, made("span", {}, when));
}

function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function chosen() {
  const files = [...at("files").files];
  at("chosen").replaceChildren(
    ...files.map((file) => {
      const remove = made("button", { type: "button", ariaLabel: `Remove ${file.name}` }, "Remove");
      remove.addEventListener("click", () => choose(files.filter((other) => other !== file)));
      return made("li", {}, made("b", {}, file.name), made("span", {}, bytes(file.size)), remove);
    }),
  );
  show("chosen", files.length > 0);
}

function choose(files) {
  const all = new DataTransfer();
  for (const file of files) all.items.add(file);
  at("files").files = all.files;
  chosen();
  at("files").focus();
}

function bytes(size) {
  if (size < 1000) return many(size, "byte");
  return size < 1e6 ? `${(size / 1e3).toFixed(size < 1e4 ? 1 : 0)} kB` : `${(size / 1e6).toFixed(1)} MB`;
}

// Files that are dropped anywhere on the form are added to those that are chosen.
function drop(event) {
  event.preventDefault();
  at("form").classList.remove("over");
  if (!event.dataTransfer.files.length) return;
  choose([...at("files").files, ...event.dataTransfer.files]);
}

function shown(run) {
  const over = run.state !== "running";
  at("state").textContent = WORDS[run.state];
  at("state").dataset.state = run.state;
  show("stop", !over);
  at("ask").disabled = !over;
  if (!over) return;
  at("report").href = run.report_url.slice(1);
  show("report", true);
  at("answer").dataset.state = run.state;
  at("answer").textContent = run.answer ?? run.error?.message ?? "";
  show("answer-box", Boolean(at("answer").textContent));
}

async function copy() {
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(at("answer").textContent);
  } catch {
    said = "Could not copy"; // an address without TLS has no clipboard
  }
  at("copy").textContent = at("progress").textContent = said;
  setTimeout(() => {
    at("copy").textContent = "Copy";
    at("progress").textContent = "";
  }, 1500);
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("ask").disabled = true;
  await attempt(ask);
  at("ask").disabled = false;
});
at("stop").addEventListener("click", () => attempt(() => client.post(`v1/runs/${now.id}/cancel`, {})));
at("copy").addEventListener("click", copy);
at("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !at("ask").disabled) at("form").requestSubmit();
});
at("key").addEventListener("change", useKey);
at("files").addEventListener("change", chosen);
at("form").addEventListener("drop", drop);
at("form").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("form").classList.add("over");
});
at("form").addEventListener("dragleave", () => at("form").classList.remove("over"));
start();
