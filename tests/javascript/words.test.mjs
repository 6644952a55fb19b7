import "./report_run.mjs";
import assert from "node:assert/strict";
import test from "node:test";

const { cost, many, money, oneLine, seconds, share, short } = await import("../../rlm_ray/report/static/words.js");

const TABLES = [
  [short, [[0, "0"], [9_999, "9,999"], [10_000, "10.0k"], [123_456, "123k"], [1_500_000, "1.50M"]]],
  [seconds, [[null, "–"], [NaN, "–"], [0, "0 s"], [0.25, "250 ms"], [5, "5.00 s"], [75, "1m 15s"], [7_320, "2h 2m"]]],
  [money, [[0, "$0"], [0.00000012, "<$0.00001"], [0.0000123, "$0.000012"], [0.5, "$0.5000"], [12.3, "$12.30"]]],
  [cost, [[{ unpriced: 0, cost_usd: 2 }, "$2.00"], [{ unpriced: 1, cost_usd: 2 }, "$2.00+"], [{ unpriced: 1, cost_usd: 0 }, "unknown"]]],
];

for (const [words, rows] of TABLES) {
  for (const [value, said] of rows) {
    test(`${words.name} of ${JSON.stringify(value)} is ${said}`, () => assert.equal(words(value), said));
  }
}

test("a share of nothing is not a number", () => {
  assert.deepEqual([share(1, 0), share(1, 3), share(2, 2)], ["–", "33.3 %", "100 %"]);
});

test("one line has no breaks and a bound", () => {
  assert.equal(oneLine(" a\n\n b "), "a b");
  assert.equal(oneLine("x".repeat(500)).length, 160);
});

test("a number of things is a word with its plural", () => {
  assert.deepEqual([many(1, "node"), many(2_000, "node"), many(2, "child", "children")], ["1 node", "2,000 nodes", "2 children"]);
});
