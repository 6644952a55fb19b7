// The tree of a run, drawn while it grows. Sessions have a line each, plain sub-calls one for each map.

const MOST = 400; // lines; what comes after is only counted
const STATES = { running: "running", ok: "done", error: "failed", stopped: "stopped" };

export class Tree {
  calls = 0;
  tokens = 0;
  cost = 0; // US dollars, of the calls whose price is known
  sessions = 0;
  undrawn = 0; // lines
  #lines = new Map();
  #maps = [];

  constructor(list) {
    this.list = list;
    list.replaceChildren();
  }

  add(record) {
    const path = record.path ?? [];
    switch (record.kind) {
      case "session":
        this.sessions += 1;
        this.#session(path, record);
        break;
      case "session_end":
        this.#end(this.#line(path), record);
        break;
      case "run_end":
        this.#stop(this.list);
        break;
      case "call":
        this.#call(path, record);
        break;
      case "cell":
        this.#facts(path, `turn ${record.turn}`);
        break;
      case "map":
        this.#map(path, record);
        break;
      case "map_end":
        this.#mapEnd(path, record);
        break;
    }
  }

  #session(path, record) {
    const known = this.#line(path);
    if (known) return this.#state(known, "running");
    const what = path.length ? `${path.at(-1) + 1}. ${record.query}` : record.query;
    this.#draw(path.join("."), this.#parent(path), what, `${size(record.input)}`);
  }

  #call(path, record) {
    const [input = 0, output = 0] = record.usage ?? [];
    this.calls += record.error_kind ? 0 : 1;
    this.tokens += input + output;
    this.cost += record.cost_usd ?? 0;
    if (record.role !== "leaf") return;
    const map = this.#mapOf(path);
    if (!map) return;
    map.over += 1;
    this.#text(map.line, `${map.over.toLocaleString("en")} of ${map.count.toLocaleString("en")}`);
  }

  #map(path, record) {
    const plain = record.count - (record.sessions ?? 0);
    if (!plain) return;
    const name = `${path.join(".")}/${record.first}`;
    const calls = plain === 1 ? "1 sub-call" : `${plain.toLocaleString("en")} sub-calls`;
    const line = this.#draw(name, this.#line(path), `${calls}: ${record.query ?? ""}`, "");
    this.#maps.push({ path: path.join("."), first: record.first, stop: record.first + record.count, count: plain, over: 0, line });
  }

  #mapEnd(path, record) {
    const map = this.#maps.find((one) => one.path === path.join(".") && one.first === record.first);
    if (map) this.#state(map.line, record.failed ? "error" : "ok");
  }

  #mapOf(path) {
    const parent = path.slice(0, -1).join(".");
    const ordinal = path.at(-1);
    return this.#maps.find((one) => one.path === parent && one.first <= ordinal && ordinal < one.stop);
  }

  #end(line, record) {
    if (!line) return;
    this.#state(line, record.error_kind ? "error" : record.stop_reason === "answered" ? "ok" : "stopped");
    this.#stop(line);
  }

  // What is below something that is over runs no more.
  #stop(box) {
    for (const line of box.querySelectorAll("li.running")) this.#state(line, "stopped");
  }

  #parent(path) {
    for (let length = path.length - 1; length >= 0; length -= 1) {
      const line = this.#line(path.slice(0, length));
      if (line) return line;
    }
    return null;
  }

  #line(path) {
    return this.#lines.get(path.join("."));
  }

  #draw(name, parent, what, facts) {
    if (this.#lines.size >= MOST) {
      this.undrawn += 1;
      return null;
    }
    const line = document.createElement("li");
    const node = document.createElement("div");
    node.className = "node";
    for (const [part, text] of [["mark", ""], ["what", what], ["facts", facts]]) {
      const span = document.createElement("span");
      span.className = part;
      span.textContent = text;
      node.append(span);
    }
    node.children[0].setAttribute("role", "img");
    node.children[1].title = what;
    line.append(node);
    this.#state(line, "running");
    this.#below(parent).append(line);
    this.#lines.set(name, line);
    return line;
  }

  #below(parent) {
    if (!parent) return this.list;
    if (!parent.querySelector(":scope > ul")) parent.append(document.createElement("ul"));
    return parent.querySelector(":scope > ul");
  }

  #state(line, state) {
    if (!line) return;
    line.className = state;
    line.querySelector(":scope > .node > .mark").setAttribute("aria-label", STATES[state]);
  }

  #facts(path, text) {
    this.#text(this.#line(path), text);
  }

  #text(line, text) {
    if (line) line.querySelector(":scope > .node > .facts").textContent = text;
  }
}

function size(input) {
  const [kind, chars, documents] = input ?? [];
  if (!chars) return "";
  const many = kind === "documents" ? `${documents.toLocaleString("en")} documents, ` : "";
  return `${many}${chars.toLocaleString("en")} characters`;
}
