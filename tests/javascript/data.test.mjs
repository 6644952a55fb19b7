import "./report_run.mjs";
import assert from "node:assert/strict";
import test from "node:test";

const { BAD, DEEPEST, SIZE, SUM, childrenOf, nameOf, nodeAt, pathOf, rowsOf, CALLS_OF, tookOf } = await import("../../rlm_ray/report/static/data.js");

test("a node's name is the path of its ordinals", () => {
  assert.deepEqual([0, 1, 3, 4].map(nameOf), ["root", "0", "1.0", "2"]);
});

test("children stand behind their parent", () => {
  assert.deepEqual([...childrenOf(0)], [1, 2, 4]);
  assert.deepEqual([...SIZE], [5, 1, 2, 1, 1]);
  assert.equal(DEEPEST, 2);
});

test("figures of a node hold those of all below it, and unknown costs count nothing", () => {
  assert.equal(SUM.cost[0], 0.75);
  assert.equal(SUM.tokens[2], 21);
  assert.equal(SUM.calls[0], 2);
  assert.equal(SUM.failed[0], 1);
});

test("a node is bad where it or a call of it failed", () => {
  assert.deepEqual([...BAD], [0, 0, 0, 1, 0]);
});

test("a node without an end lasts as long as the run is known", () => {
  assert.equal(tookOf(4), 4);
  assert.deepEqual([...rowsOf(CALLS_OF, 4)], [2]);
});

test("a link names every node by its path, and no other", () => {
  assert.deepEqual([0, 1, 2, 3, 4].map((node) => nodeAt(pathOf(node))), [0, 1, 2, 3, 4]);
  assert.deepEqual(["", "9", "1.1", "1.0.0", "root.0", "-1", "0x1", "01", "1.", "<b>"].map(nodeAt), Array(10).fill(-1));
});
