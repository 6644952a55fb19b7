// The service, as this page uses it. Every call sends the key and turns an error reply into an Error.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Client {
  key = "";

  async json(path, options = {}) {
    return (await this.#call(path, options)).json();
  }

  post(path, body) {
    const headers = { "content-type": "application/json" };
    return this.json(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  async upload(file) {
    const form = new FormData();
    form.set("file", file);
    return this.json("v1/files", { method: "POST", body: form });
  }

  // The records of a run, as they are written. EventSource cannot send a key.
  async *events(id, signal) {
    const reply = await this.#call(`v1/runs/${id}/events`, { signal });
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reached(reader.read(), "the connection was lost; the run goes on: it is among your last runs");
      if (done) return;
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const line = part.split("\n").find((entry) => entry.startsWith("data: "));
        if (line) yield JSON.parse(line.slice(6));
      }
    }
  }

  async #call(path, options) {
    const headers = { ...options.headers };
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    const reply = await reached(fetch(path, { ...options, headers }), "the service does not answer; check that it runs, and try again");
    if (reply.ok) return reply;
    const body = await reply.json().catch(() => ({}));
    throw new Refused(reply.status, body.error?.message ?? `the service answered ${reply.status}`);
  }
}

// Without a connection there is no reply; an abort is the page's own.
async function reached(work, otherwise) {
  try {
    return await work;
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(0, otherwise);
  }
}
