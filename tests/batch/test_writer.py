"""Parts, formats and marks: what is written is there, whole, once and in order."""

from __future__ import annotations

import asyncio
import json
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.batch.formats import Jsonl, Parquet, format_of
from rlm_ray.batch.results import CompletedRows, RowResult, key_of
from rlm_ray.batch.writer import PART_ROWS, BatchOutput, PartWriter
from rlm_ray.errors import InputError

FURTHER = pa.schema([pa.field("pages", pa.int64()), pa.field("row", pa.string())])
FORMATS = {"jsonl": Jsonl, "parquet": lambda: Parquet(FURTHER)}


def outcome(row, **changes):
    return RowResult(row, f"d{row}", f"answer {row}", key=key_of("q", str(row), ""), **changes).as_dict()


@pytest.fixture(params=FORMATS)
def form(request):
    return FORMATS[request.param]()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.text(), st.one_of(st.none(), st.text())), max_size=20))
def test_whatever_stands_in_a_row_comes_back(texts):
    rows = [RowResult(n, ident, answer).as_dict() for n, (ident, answer) in enumerate(texts)]
    for form in (Jsonl(), Parquet()):
        back = list(form.unpacked(form.packed(rows)))
        assert [(row["row"], row["id"], row["answer"]) for row in back] == [
            (n, ident, answer) for n, (ident, answer) in enumerate(texts)
        ]


def test_half_a_surrogate_pair_does_not_stop_the_writing(form):
    (row,) = form.unpacked(form.packed([outcome(0) | {"answer": "bad \ud83d half"}]))
    assert row["answer"] == "bad ? half"


def test_parquet_has_types_and_nulls(tmp_path):
    form = Parquet(FURTHER)
    values = {"pages": 3, "row": "its own"}
    (tmp_path / "x.parquet").write_bytes(form.packed([outcome(0, values=values, cost_usd=0.5), outcome(1)]))
    table = pq.read_table(tmp_path / "x.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "row": "int64", "id": "string", "answer": "string", "pages": "int64", "answer_row": "string",
        "error": "string", "stop_reason": "string", "calls": "int64", "input_tokens": "int64",
        "output_tokens": "int64", "cost_usd": "double", "turns": "int32", "seconds": "double", "run_id": "string",
        "trace_id": "string", "key": "string",
    }  # fmt: skip
    assert table["cost_usd"].to_pylist() == [0.5, None]
    assert table["answer_row"].to_pylist() == ["its own", None]


def test_a_part_is_there_whole_or_not_at_all(tmp_path, form, monkeypatch):
    output = BatchOutput(str(tmp_path / "out"), form)
    output.write([outcome(0)])
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(InputError, match="the disk is full"):
        output.write([outcome(1)])
    marks, _ = BatchOutput(str(tmp_path / "out"), form).load_completed()
    assert (0 in marks, 1 in marks, marks.count) == (True, False, 1)


def test_what_is_done_is_known_from_the_parts(tmp_path, form):
    output = BatchOutput(str(tmp_path / "out"), form)
    output.write([outcome(5), outcome(2, error="bad")])
    output.write([outcome(9)])
    marks, failed = BatchOutput(str(tmp_path / "out"), form).load_completed()
    assert [row for row in range(12) if row in marks] == [2, 5, 9]
    assert failed == 1
    assert marks.key_mismatch(5, key_of("another", "5", ""))
    assert not marks.key_mismatch(5, key_of("q", "5", ""))


def test_failed_rows_can_be_taken_out(tmp_path, form):
    output = BatchOutput(str(tmp_path / "out"), form)
    output.write([outcome(0), outcome(1, error="bad")])
    output.write([outcome(2, error="bad")])
    output.drop_failed_rows()
    marks, failed = output.load_completed()
    assert ([row for row in range(3) if row in marks], failed) == ([0], 0)


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(30)), st.integers(3, 9))
def test_one_file_has_all_rows_in_the_order_of_the_input(tmp_path_factory, order, size):
    for suffix, form in ((".jsonl", Jsonl()), (".parquet", Parquet())):
        out = tmp_path_factory.mktemp("out") / f"all{suffix}"
        output = BatchOutput(str(out), form)
        for start in range(0, 30, size):
            output.write([outcome(row) for row in order[start : start + size]])
        assert output.finish() == str(out)
        rows = list(form.unpacked(out.read_bytes()))
        assert [(row["row"], row["id"]) for row in rows] == [(n, f"d{n}") for n in range(30)]


def test_a_file_of_no_rows_is_a_file(tmp_path):
    for suffix, form in ((".jsonl", Jsonl()), (".parquet", Parquet())):
        out = tmp_path / f"none{suffix}"
        BatchOutput(str(out), form).finish()
        assert list(form.unpacked(out.read_bytes())) == []


def test_only_parts_that_overlap_are_open_at_once(tmp_path, monkeypatch):
    output = BatchOutput(str(tmp_path / "all.jsonl"), Jsonl())
    for part in range(50):
        output.write([outcome(row) for row in range(10 * part, 10 * part + 10)])
    held = []
    real = Jsonl.unpacked

    def unpacked(self, data, columns=None):
        if columns is not None:
            yield from real(self, data, columns)
            return
        held.append(1)
        yield from real(self, data)
        held.pop()

    monkeypatch.setattr(Jsonl, "unpacked", unpacked)
    for _ in output.rows():
        assert len(held) <= 2


def test_the_output_may_be_any_fsspec_url(form):
    output = BatchOutput("memory://batches/out", form)
    output.clear()
    output.write_manifest({"run_id": "r", "asked": {}})
    output.write([outcome(0)])
    again = BatchOutput("memory://batches/out", form)
    assert again.read_manifest() == {"run_id": "r", "asked": {}}
    assert again.load_completed()[0].count == 1
    again.clear()
    assert (again.read_manifest(), again.load_completed()[0].count) == (None, 0)


def test_a_broken_job_file_says_what_to_do(tmp_path):
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(InputError, match="start anew with --restart"):
        BatchOutput(str(tmp_path), Jsonl()).read_manifest()


@pytest.mark.parametrize(
    ("out", "named", "suffix"),
    [
        ("x", None, ".jsonl"),
        ("x.parquet", None, ".parquet"),
        ("x", "parquet", ".parquet"),
        ("x.jsonl", None, ".jsonl"),
    ],
)
def test_the_format_is_named_or_that_of_the_suffix(out, named, suffix):
    assert format_of(out, named).suffix == suffix


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.integers(0, 5000), st.integers(1, 2**64 - 1)))
def test_marks_know_exactly_what_was_added(rows):
    marks = CompletedRows()
    for row, key in rows.items():
        marks.add(row, f"{key:016x}")
    assert marks.count == len(rows)
    assert all((row in marks) == (row in rows) for row in range(5100))
    assert all(marks.key_mismatch(row, f"{key ^ 1:016x}") for row, key in rows.items() if key != 1)
    assert not any(marks.key_mismatch(row, f"{key:016x}") for row, key in rows.items())
    assert not any(marks.key_mismatch(row, "") for row in rows)


def test_a_row_that_could_not_be_read_has_no_key_to_differ():
    marks = CompletedRows()
    marks.add(3, "")
    assert not marks.key_mismatch(3, "0" * 15 + "1")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(), min_size=3, max_size=3), st.lists(st.text(), min_size=3, max_size=3))
def test_other_questions_ids_or_texts_have_other_keys(one, other):
    assert (key_of(*one) == key_of(*other)) == (
        [part.encode("utf-8", "replace") for part in one]
        == [part.encode("utf-8", "replace") for part in other]
    )


def test_jsonl_is_one_object_a_line():
    data = Jsonl().packed([outcome(0, values={"tags": ["a\nb"]}), outcome(1)])
    assert [json.loads(line)["row"] for line in data.decode().splitlines()] == [0, 1]


def test_parts_without_a_failed_row_stay_as_they_are(tmp_path, form):
    output = BatchOutput(str(tmp_path / "out"), form)
    output.write([outcome(0), outcome(1)])
    output.write([outcome(2), outcome(3, error="bad")])
    output.write([outcome(4, error="bad"), outcome(5, error="")])
    before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").iterdir())]
    output.drop_failed_rows()
    parts = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in parts] == [f"part-00000{number}{form.suffix}" for number in (0, 1)]
    assert [path.stat().st_mtime_ns == time for path, time in zip(parts, before, strict=False)] == [
        True,
        False,
    ]
    assert [cells["row"] for cells in output.rows()] == [0, 1, 2]


def test_columns_stand_in_one_order_with_those_of_the_schema_behind_the_answer(tmp_path):
    names = ["row", "id", "answer", "pages", "answer_row", "error", "stop_reason", "calls"]
    assert Parquet(FURTHER).schema.names[:8] == names
    assert Parquet(FURTHER).schema.names[8:] == Parquet().schema.names[6:]
    line = Jsonl().packed([outcome(0, values={"pages": "Größe"})])
    assert "Größe".encode() in line
    assert line.endswith(b"}\n")


def test_notes_of_a_job_can_be_read_by_people(tmp_path):
    output = BatchOutput(str(tmp_path / "out"), Jsonl())
    assert output.read_manifest() is None
    output.write_manifest({"run_id": "r", "asked": {"query": "Größe?"}})
    written = (tmp_path / "out" / "job.json").read_text()
    assert '"query": "Größe?"' in written
    assert written.endswith("}\n")
    assert written.count("\n") > 4


@pytest.mark.parametrize(("name", "is_file"), [("x.jsonl", True), ("x.parquet", True), ("x.json", False), ("x", False), ("x.jsonl.d", False)])  # fmt: skip
def test_parts_stand_beside_a_file_and_in_a_folder(tmp_path, name, is_file):
    output = BatchOutput(str(tmp_path / name), Jsonl())
    output.write([outcome(0)])
    assert output.folder.address == str(tmp_path / name) + (".parts" if is_file else "")
    assert output.finish() == str(tmp_path / name)
    assert (tmp_path / name).is_file() is is_file
    assert (tmp_path / f"{name}.new").exists() is False


def test_rows_come_by_number_however_their_parts_overlap(tmp_path, form):
    output = BatchOutput(str(tmp_path / "out"), form)
    for part in ([0, 9], [1, 2, 8], [3], [4, 5, 6, 7], [10, 12], [11]):
        output.write([outcome(row) for row in reversed(part)])
    assert [cells["row"] for cells in output.rows()] == list(range(13))
    assert list(BatchOutput(str(tmp_path / "none"), form).rows()) == []


def test_only_the_columns_that_are_asked_for_are_read(form):
    data = form.packed([outcome(0, error="bad"), outcome(1)])
    rows = list(form.unpacked(data, ("row", "error")))
    assert [(row["row"], row["error"]) for row in rows] == [(0, "bad"), (1, None)]
    if form.suffix == ".parquet":
        assert set(rows[0]) == {"row", "error"}


class Parts:
    """An output that keeps the rows of each part and when it was written, and a clock that is a second on at each look."""

    def __init__(self):
        self.now, self.parts, self.times = 0.0, [], []
        self._written, self._loop = asyncio.Event(), asyncio.get_running_loop()

    def clock(self):
        self.now += 1.0
        return self.now

    def write(self, rows):
        self.parts.append([cells["row"] for cells in rows])
        self.times.append(self.now)
        self._loop.call_soon_threadsafe(self._written.set)

    async def written(self):
        """Wait for the next part; return how long after this call it was written."""
        began = self.now
        await self._written.wait()
        self._written.clear()
        return self.times[-1] - began


@pytest.fixture
async def kept(monkeypatch):
    """A writer that keeps saving, and its output."""
    monkeypatch.setattr("rlm_ray.batch.writer.LOOK_S", 0.001)
    output = Parts()
    writer = PartWriter(output, output.clock)
    saving = asyncio.create_task(writer.keep_saving())
    async with asyncio.timeout(60):
        yield writer, output
    saving.cancel()
    await asyncio.wait([saving])


async def test_rows_are_saved_when_the_first_of_them_has_waited_five_seconds(kept):
    writer, output = kept
    for _ in range(2):
        writer.put(RowResult(0, "a"))
        writer.put(RowResult(1, "a"))
        assert await output.written() == 5.0
    assert output.parts == [[0, 1], [0, 1]]


async def test_a_full_part_is_saved_at_once_and_each_row_once(kept):
    writer, output = kept
    for part in range(3):
        for row in range(PART_ROWS):
            writer.put(RowResult(part * PART_ROWS + row, "a"))
        assert await output.written() < 5.0
        await writer.wait_for_capacity()
    writer.put(RowResult(3 * PART_ROWS, "a"))
    assert await output.written() == 5.0
    assert [len(part) for part in output.parts] == [PART_ROWS] * 3 + [1]
    assert list(chain(*output.parts)) == list(range(3 * PART_ROWS + 1))
