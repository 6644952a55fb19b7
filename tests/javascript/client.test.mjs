import assert from "node:assert/strict";
import test from "node:test";
import { Client, Refused } from "../../rlm_ray/serve/static/client.js";

function respond(body, status = 200) {
  const asked = [];
  globalThis.fetch = async (path, options) => {
    asked.push({ path, ...options });
    return new Response(body, { status });
  };
  return asked;
}

const stream = (...pieces) =>
  new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
      controller.close();
    },
  });

test("the key goes with every request, and none without a key", async () => {
  const asked = respond("{}");
  const client = new Client();
  await client.json("v1/models");
  client.key = "sk";
  await client.post("v1/runs", { query: "q" });
  assert.equal(asked[0].headers.authorization, undefined);
  assert.equal(asked[1].headers.authorization, "Bearer sk");
  assert.equal(asked[1].body, '{"query":"q"}');
});

test("records are read however the stream is cut", async () => {
  respond(stream('id: 0\ndata: {"kind":"a"}\n', '\n: keep-alive\n\nid: 1\nda', 'ta: {"kind":"b"}\n\n', 'data: {"cut'));
  const kinds = [];
  for await (const record of new Client().events("r")) kinds.push(record.kind);
  assert.deepEqual(kinds, ["a", "b"]);
});

test("an error reply is an error with the words of the service", async () => {
  respond('{"error":{"message":"the key is unknown"}}', 401);
  await assert.rejects(new Client().json("v1/models"), (error) => error instanceof Refused && error.status === 401 && error.message === "the key is unknown");
  respond("<html>", 502);
  await assert.rejects(new Client().json("v1/models"), /the service answered 502/);
});
