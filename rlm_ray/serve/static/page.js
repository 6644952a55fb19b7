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
const at = (id) => document.getElementById(id);
const client = new Client();
let now = null; // the run that is shown

function show(id, visible) {
  at(id).hidden = !visible;
}

function say(text) {
  at("notice").textContent = text;
  show("notice", Boolean(text));
}

async function loadModels() {
  const { data } = await client.json("v1/models");
  at("model").replaceChildren(...data.map(({ id }) => new Option(id, id)));
}

async function start() {
  client.key = sessionStorage.getItem(KEY) ?? "";
  at("key").value = client.key;
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
    if (error instanceof Refused && error.status === 401) show("key-row", true);
    say(error.message);
  }
}

function useKey() {
  client.key = at("key").value.trim();
  sessionStorage.setItem(KEY, client.key);
  return attempt(loadAll);
}

async function ask() {
  const files = [];
  for (const file of at("files").files) files.push((await client.upload(file)).id);
  const context = at("context").value;
  const run = await client.post("v1/runs", {
    model: at("model").value,
    query: at("query").value,
    file_ids: files,
    ...(context ? { context } : {}),
  });
  await watch(run);
}

async function watch(run) {
  now?.abort.abort();
  const mine = { id: run.id, abort: new AbortController(), tree: new Tree(at("tree")) };
  now = mine;
  show("run", true);
  show("answer", false);
  show("report", false);
  shown(run);
  for await (const record of client.events(run.id, mine.abort.signal)) {
    mine.tree.add(record);
    figures(mine.tree);
  }
  if (now !== mine) return;
  shown(await client.json(`v1/runs/${run.id}`));
  await loadHistory();
}

function figures(tree) {
  const parts = [[tree.sessions, "session"], [tree.calls, "call"], [tree.tokens, "token"]];
  at("figures").textContent = parts
    .map(([count, word]) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`)
    .concat(tree.cost ? [`$${tree.cost.toFixed(4)}`] : [])
    .join(" · ");
}

// What this key asked last; one of them is shown, and watched where it still runs.
async function loadHistory() {
  const { data } = await client.json("v1/runs?limit=10");
  at("runs").replaceChildren(...data.map(entry));
  show("history", data.length > 0);
}

function entry(run) {
  const line = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = run.query;
  button.addEventListener("click", () => attempt(() => watch(run)));
  const facts = document.createElement("span");
  facts.textContent = `${WORDS[run.state]} · ${new Date(run.created_at * 1000).toLocaleString("en")}`;
  line.append(button, facts);
  return line;
}

function chosen() {
  const names = [...at("files").files].map(({ name }) => name);
  at("chosen").replaceChildren(
    ...names.map((name) => {
      const line = document.createElement("li");
      line.textContent = name;
      return line;
    }),
  );
  show("chosen", names.length > 0);
}

// Files that are dropped anywhere on the form are added to those that are chosen.
function drop(event) {
  event.preventDefault();
  at("form").classList.remove("over");
  if (!event.dataTransfer.files.length) return;
  const all = new DataTransfer();
  for (const file of [...at("files").files, ...event.dataTransfer.files]) all.items.add(file);
  at("files").files = all.files;
  chosen();
}

function shown(run) {
  const over = run.state !== "running";
  at("state").textContent = WORDS[run.state];
  at("state").dataset.state = run.state;
  show("cancel", !over);
  at("ask").disabled = !over;
  if (!over) return;
  at("report").href = run.report_url.slice(1);
  show("report", true);
  at("answer").dataset.state = run.state;
  at("answer").textContent = run.answer ?? run.error?.message ?? "";
  show("answer", Boolean(at("answer").textContent));
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("ask").disabled = true;
  await attempt(ask);
  at("ask").disabled = false;
});
at("cancel").addEventListener("click", () => attempt(() => client.post(`v1/runs/${now.id}/cancel`, {})));
at("key").addEventListener("change", useKey);
at("files").addEventListener("change", chosen);
at("form").addEventListener("drop", drop);
at("form").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("form").classList.add("over");
});
at("form").addEventListener("dragleave", () => at("form").classList.remove("over"));
start();
