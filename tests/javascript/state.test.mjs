import "./report_run.mjs";
import assert from "node:assert/strict";
import test, { beforeEach } from "node:test";

const state = await import("../../rlm_ray/report/static/state.js");
const { arrange, filter, fold, foldAll, on, refilter, select, sortBy, view } = state;

beforeEach(() => {
  Object.assign(filter, { search: "", bad: false, depth: -1, model: -1, cost: 0 });
  Object.assign(view, { selected: -1, flat: false, sort: "tree", descending: true });
  foldAll(false);
  refilter();
});

test("rows are the tree, parents first", () => {
  assert.deepEqual([...state.rows], [0, 1, 2, 3, 4]);
  assert.equal(state.rowOf[4], 4);
});

test("what is below a folded node has no row until it is selected", () => {
  fold(2, true);
  assert.deepEqual([...state.rows], [0, 1, 2, 4]);
  select(3);
  assert.deepEqual([...state.rows], [0, 1, 2, 3, 4]);
});

test("matches come with what stands above them, in a list alone", () => {
  filter.bad = true;
  refilter();
  assert.equal(state.matched, 1);
  assert.deepEqual([...state.rows], [0, 2, 3]);
  view.flat = true;
  arrange();
  assert.deepEqual([...state.rows], [3]);
});

test("a search finds texts in any case, and nodes by their name", () => {
  for (const [needle, rows] of [["ROOF", [0, 1]], ["1.0", [0, 2, 3]], ["nowhere", []]]) {
    filter.search = needle;
    refilter();
    assert.deepEqual([...state.rows], rows, needle);
  }
});

test("siblings are sorted by a column, and the other way at the second time", () => {
  sortBy("cost");
  assert.deepEqual([...state.rows], [0, 1, 2, 3, 4]);
  sortBy("cost");
  assert.deepEqual([...state.rows], [0, 4, 2, 3, 1]);
});

test("listeners hear of every change of rows", () => {
  let heard = 0;
  on("rows", () => (heard += 1));
  arrange();
  assert.equal(heard, 1);
});
