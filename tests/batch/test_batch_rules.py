"""Rules of a batch at their edges: sizes of files, texts and parts, columns that are needed, how much is read."""

from __future__ import annotations

import asyncio
import gzip
import io
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_fakes import FakeJob, task_of
from rich.console import Console

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.batch.dataset import is_dataset
from rlm_ray.batch.files import File
from rlm_ray.batch.formats import Jsonl, Parquet
from rlm_ray.batch.job import check_compatible, estimate_batch
from rlm_ray.batch.parquet_reader import _check_size, from_arrow, is_text, needed_columns, read_parquet
from rlm_ray.batch.progress import BatchProgress
from rlm_ray.batch.raw_rows import RawRow, RefusedError
from rlm_ray.batch.results import BatchStats, CompletedRows, RowResult
from rlm_ray.batch.source import IterableSource, open_corpus
from rlm_ray.batch.tables import open_table
from rlm_ray.batch.template import Template
from rlm_ray.batch.writer import PART_BYTES, PART_ROWS, BatchOutput, PartWriter
from rlm_ray.errors import InputError, ModelError

FAR = 569_000_000_000 * 1_000_000
"""Microseconds to the year 20000."""


def metadata(*groups):
    """Return metadata of a file whose row groups have columns of (name, bytes packed, bytes unpacked)."""

    def column(name, packed, unpacked):
        return SimpleNamespace(
            path_in_schema=name, total_compressed_size=packed, total_uncompressed_size=unpacked
        )

    found = [
        SimpleNamespace(num_columns=len(group), column=lambda at, group=group: column(*group[at]))
        for group in groups
    ]
    return SimpleNamespace(num_row_groups=len(found), row_group=found.__getitem__)


@pytest.mark.parametrize(
    ("packed", "unpacked", "max_row_bytes", "fits"),
    [(1, 200, 1, True), (1, 201, 1, False), (1, 6_400, 100, True), (1, 6_401, 100, False), (0, 64, 1, True), (0, 65, 1, False)],
)  # fmt: skip
def test_file_may_unpack_to_64_of_the_largest_rows_or_to_200_times_its_size(
    packed, unpacked, max_row_bytes, fits
):
    file = metadata([("a", packed, unpacked)])
    if fits:
        assert _check_size(file, {"a"}, max_row_bytes) == unpacked
    else:
        with pytest.raises(RefusedError, match="raise --max-row-bytes if you trust the file"):
            _check_size(file, {"a"}, max_row_bytes)


def test_size_of_a_file_is_that_of_the_columns_that_are_read():
    file = metadata(
        [("a", 1, 10), ("b.list.element", 2, 20), ("c.d", 3, 40)], [("a", 1, 80), ("e", 5, 10**12)]
    )
    assert [_check_size(file, names, 10**6) for names in ({"a"}, {"a", "b"}, {"c.d"}, {"d"}, set())] == [
        90,
        110,
        40,
        0,
        0,
    ]


def test_refusal_of_a_file_says_its_sizes():
    with pytest.raises(RefusedError) as refused:
        _check_size(metadata([("a", 1_250_000, 3_400_000_000)]), {"a"}, 32_000_000)
    assert refused.value.why == (
        "unpacks from 1.25 MB to 3.4 GB by its metadata, above 2.0 GB; raise --max-row-bytes if you trust the file"
    )


@pytest.mark.parametrize(
    ("names", "named", "further", "needed"),
    [
        (["id", "text", "x"], (None, None), (), {"id", "text"}),
        (["ID", "TEXT", "x"], (None, None), (), {"ID", "TEXT"}),
        (["id", "body", "n"], (None, None), (), {"id", "body"}),
        (["id", "body", "title", "n"], (None, None), (), {"id"}),
        (["id", "body", "title", "n"], ("title", "n"), ("body",), {"id", "body", "title", "n"}),
        (["text", "body"], ("body", None), ("x",), {"text", "body", "x"}),
        (["n"], (None, ""), (), set()),
    ],
)  # fmt: skip
def test_columns_that_rows_need(names, named, further, needed):
    schema = pa.schema([(name, pa.int64() if name in ("n", "x") else pa.string()) for name in names])
    assert set(needed_columns(schema, named, further)) == needed


@pytest.mark.parametrize(
    ("kind", "holds_text"),
    [
        (pa.string(), True), (pa.large_string(), True), (pa.binary(), True), (pa.large_binary(), True), (pa.int64(), False),
        (pa.dictionary(pa.int32(), pa.string()), True), (pa.dictionary(pa.int32(), pa.int64()), False), (pa.list_(pa.string()), False),
    ],
)  # fmt: skip
def test_types_of_texts(kind, holds_text):
    assert is_text(kind) is holds_text


def test_share_of_a_parquet_file_that_was_read_is_told(tmp_path):
    pq.write_table(pa.table({"text": ["x"] * 2_500, "n": range(2_500)}), tmp_path / "t.parquet")
    told = []
    rows = list(read_parquet(str(tmp_path / "t.parquet"), 10**6, None, told.append))
    assert (len(rows), rows[0].values) == (2_500, {"text": "x", "n": 0})
    assert told == [1024 / 2500, 2048 / 2500, 1.0]
    assert list(read_parquet(str(tmp_path / "t.parquet"), 10**6, lambda _: ())) == [RawRow()] * 2_500
    named = list(read_parquet(str(tmp_path / "t.parquet"), 10**6, lambda _: ("n",)))
    assert named[-1].values == {"n": 2_499}


@pytest.mark.parametrize(
    ("text", "why"),
    [("x" * 50, ""), ("x" * 51, "is 0.0 MB, above"), ("ü" * 25, ""), ("ü" * 26, "is 0.0 MB, above")],
)
def test_text_of_a_row_may_have_as_many_bytes_as_a_row(text, why):
    (row,) = open_corpus([{"text": text}], max_row_bytes=50)
    assert (row.error[: len(why)], bool(row.error)) == (why, bool(why))


def test_share_of_a_list_that_was_read_is_known_and_of_an_iterator_it_is_not():
    source = IterableSource(["a", "b", "c", "d"])
    assert source.fraction_read() == 0.0
    rows = source.read()
    shares = [(next(rows), source.fraction_read())[1] for _ in range(4)]
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert list(source.read()) == list(IterableSource(["a", "b", "c", "d"]).read())
    assert IterableSource([]).fraction_read() == 0.0
    one = IterableSource(["a"])
    assert (list(one.read()), one.fraction_read()) == ([RawRow({"text": "a"})], 1.0)
    assert IterableSource(iter("ab")).fraction_read() is None


def test_head_that_is_looked_at_is_bounded_by_its_texts():
    read = []

    def rows():
        for number in range(10):
            read.append(number)
            yield {"text": "x" * 2_000_000, "n": 10**9}

    open_corpus(rows())
    assert read == [0, 1]


@pytest.mark.parametrize(
    ("columns", "text", "ident"),
    [
        (["text", "id"], "text", "id"), (["TEXT", "Id"], "TEXT", "Id"), (["Text", "TEXT", "x"], None, None), (["body"], "body", None),
        (["id", "ID", "body"], None, "id"),
    ],
)  # fmt: skip
def test_columns_of_text_and_id_are_found_in_other_letters_where_only_one_is_alike(columns, text, ident):
    corpus = open_corpus([dict.fromkeys(columns, "x")])
    assert (corpus.text_column, corpus.ident_column) == (text, ident)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"text": b"ab"}, ""), ({"text": b"\xff"}, "is not UTF-8 (byte 0xff at offset 0)"), ({"text": 5}, "the column 'text' is no text but int"),
        ({"text": None}, "the column 'text' is missing"), ({"x": "a"}, "the column 'text' is missing"),
    ],
)  # fmt: skip
def test_text_of_a_row_is_a_text(row, error):
    (found,) = (
        open_corpus([row], text="text") if "text" in row else list(open_corpus([{"text": "a"}, row]))[1:]
    )
    assert found.error == error


def test_parts_are_numbered_on_from_those_that_are_there(tmp_path):
    output = BatchOutput(str(tmp_path / "out"), Jsonl())
    for row in range(2):
        output.write([RowResult(row, "a").as_dict()])
    output = BatchOutput(str(tmp_path / "out"), Jsonl())
    output.write([RowResult(2, "a").as_dict()])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "part-000000.jsonl", "part-000001.jsonl", "part-000002.jsonl",
    ]  # fmt: skip
    (tmp_path / "out" / "mine.txt").write_text("x")
    output.clear()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    output.write([RowResult(7, "a").as_dict()])
    assert (tmp_path / "out" / "part-000000.jsonl").exists()


def test_parts_of_another_format_and_files_of_somebody_else_are_refused(tmp_path):
    BatchOutput(str(tmp_path / "out"), Jsonl()).write([RowResult(0, "a").as_dict()])
    with pytest.raises(InputError, match="holds jsonl parts; use that format, or another --out"):
        BatchOutput(str(tmp_path / "out"), Parquet())
    with pytest.raises(InputError, match="no job's output"):
        BatchOutput(str(tmp_path / "out"), Jsonl()).check_empty()
    BatchOutput(str(tmp_path / "new"), Jsonl()).check_empty()
    (tmp_path / "x.jsonl").write_text("dear")
    with pytest.raises(InputError, match="overwrite it with --restart"):
        BatchOutput(str(tmp_path / "x.jsonl"), Jsonl()).check_empty()


async def test_part_is_due_when_its_rows_or_their_texts_are_many(tmp_path):
    for rows, chars, is_due, has_room in [
        (PART_ROWS - 1, 0, False, True), (PART_ROWS, 0, True, True), (1, PART_BYTES - 301, False, True), (1, PART_BYTES - 300, True, True),
        (4 * PART_ROWS - 1, 0, True, True), (4 * PART_ROWS, 0, True, False), (1, 4 * PART_BYTES, True, False),
    ]:  # fmt: skip
        keeper = PartWriter(BatchOutput(str(tmp_path / "out"), Jsonl()), lambda: 0.0)
        for row in range(rows):
            keeper.put(RowResult(row, "a", "x" * chars))
        waiting = asyncio.ensure_future(keeper.wait_for_capacity())
        await asyncio.sleep(0)
        assert (keeper._due.is_set(), waiting.done()) == (is_due, has_room)
        waiting.cancel()


async def test_saving_nothing_writes_no_part(tmp_path):
    keeper = PartWriter(BatchOutput(str(tmp_path / "out"), Jsonl()), lambda: 0.0)
    await keeper.save()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert not keeper._late()
    keeper.put(RowResult(0, "a"))
    await keeper.save()
    await keeper.save()
    keeper.put(RowResult(1, "a", "x" * (PART_BYTES - 301)))  # nothing is left of the part before
    assert not keeper._due.is_set()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["part-000000.jsonl"]


@pytest.mark.parametrize(
    ("path", "kind", "compression"),
    [
        ("a.jsonl", "jsonl", ""), ("a.JSON.GZ", "jsonl", ".GZ"), ("a.ndjson.zst", "jsonl", ".zst"), ("d/a.csv.bz2", "csv", ".bz2"), ("a.tsv.xz", "tsv", ".xz"),
        ("a.tab", "tsv", ""), ("a.parquet", "parquet", ""), ("a.xlsx", "workbook", ""), ("a.txt.gz", "text", ".gz"), ("a.gz", "text", ".gz"), ("csv", "text", ""),
    ],
)  # fmt: skip
def test_kind_of_a_file_is_that_of_its_suffix(path, kind, compression):
    file = File(None, path, path, 1, discovered=False)
    assert (file.kind, file.compression) == (kind, compression)


@pytest.mark.parametrize(
    ("nbytes", "why"),
    [(50, ""), (51, "is 0.0 MB, above the 0.0 MB of max_row_bytes"), (500, "is 0.0 MB, above")],
)
def test_text_file_may_have_as_many_bytes_as_a_row(tmp_path, nbytes, why):
    (tmp_path / "a.txt").write_bytes(b"x" * nbytes)
    (row,) = open_corpus(tmp_path / "a.txt", max_row_bytes=50)
    assert (row.error.startswith(why), bool(row.error)) == (True, bool(why))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"x" * nbytes))
    (row,) = open_corpus(tmp_path / "b.txt.gz", max_row_bytes=50)
    assert bool(row.error) is bool(why)
    if why:
        assert row.error == "unpacks to more than the 0.0 MB of max_row_bytes"


def test_rows_of_files_are_named_after_their_place_below_what_was_named(tmp_path):
    for name in ("x/1.jsonl", "x/y/2.jsonl", "x/.hidden.jsonl", "x/.d/3.jsonl", "x/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "a"}\n{"text": "b"}\n')
    rows = [row.id for row in open_corpus(str(tmp_path / "x" / "**" / "*.jsonl"))]
    assert rows == ["1.jsonl:1", "1.jsonl:2", "y/2.jsonl:1", "y/2.jsonl:2"]
    corpus = open_corpus([tmp_path / "x" / "1.jsonl", tmp_path / "x" / "note.txt"])
    assert [row.id for row in corpus] == ["1.jsonl:1", "1.jsonl:2", "note.txt"]
    assert corpus.name == f"{tmp_path}/x/1.jsonl {tmp_path}/x/note.txt"
    assert corpus.share() == 1.0


def test_file_that_breaks_is_told_behind_its_last_row_and_the_next_is_read(tmp_path):
    good = gzip.compress(b'{"text": "a"}\n' * 3)
    (tmp_path / "a.jsonl.gz").write_bytes(good + b"\x1f\x8b broken")
    (tmp_path / "b.jsonl").write_text('{"text": "b"}\n')
    rows = list(open_corpus([tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"]))
    assert rows[-1].text == "b"
    assert rows[-2].id == f"a.jsonl.gz:{len(rows) - 1}"
    assert rows[-2].error.startswith(f"cannot be read, nor can what follows in {tmp_path}/a.jsonl.gz: ")


@pytest.mark.parametrize(
    ("module", "name", "found"),
    [("ray.data.dataset", "Dataset", True), ("ray.data", "Other", False), ("pandas", "Dataset", False)],
)
def test_dataset_of_ray_is_known_without_importing_ray(module, name, found):
    kind = type(name, (), {"__module__": module})
    assert is_dataset(kind()) is found
    assert is_dataset(type("Child", (kind,), {})()) is found


@pytest.mark.parametrize(
    ("limit", "facts"),
    [
        (None, (4, 1, 13, 9, 900)), (3, (3, 1, 13, 8, 600)), (2, (2, 1, 10, 7, 300)), (1, (1, 0, 10, 7, 300)), (0, (0, 0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_estimate_counts_rows_characters_and_tokens_up_to_the_limit(limit, facts):
    corpus = open_corpus(
        [{"text": "ü" * 10}, {"text": " "}, {"text": "abc"}, {"text": "", "q": "x"}], text="text"
    )
    found = estimate_batch(corpus, Template.parse("Q{q}"), limit, lambda usage: usage.tokens / 2)
    rows, bad, chars, input_tokens, output_tokens = facts
    assert (found.rows, found.bad_rows, found.chars) == (rows, bad, chars)
    assert (found.input_tokens, found.output_tokens) == (input_tokens, output_tokens)
    assert found.cost_usd == (input_tokens + output_tokens) / 2
    assert found.as_dict()["bad_rows"] == bad


async def test_summary_counts_rows_of_this_attempt_and_of_those_before(tmp_path):
    def reply(row, query, context):
        if row in (1, 4):
            raise ModelError("m", "odd")
        return "x"

    source = [{"text": f"t{number}"} for number in range(6)]
    first = await task_of(source, tmp_path / "out", FakeJob(reply), limit=3).run("run")
    assert (first.rows, first.answered, first.failed, first.earlier) == (3, 2, 1, 0)
    assert (first.calls, first.input_tokens, first.output_tokens, first.cost_usd) == (3, 100, 10, 0.01)
    second = await task_of(source, tmp_path / "out", FakeJob(reply)).run("other")
    assert (second.rows, second.answered, second.failed, second.earlier) == (6, 4, 2, 3)
    assert (second.run_id, second.stop_reason, second.why, second.calls) == ("run", "done", "", 3)
    assert second.out == str(tmp_path / "out")
    assert second.as_dict()["earlier"] == 3


def test_log_gets_its_first_line_after_two_seconds_and_then_each_five():
    now, console = [0.0], Console(file=io.StringIO(), width=200, color_system=None)
    progress = BatchProgress(console, clock=lambda: now[0])
    progress.stats = BatchStats()
    counts = []
    for moment in (1.9, 2.0, 6.9, 7.0, 11.9, 12.0):
        now[0] = moment
        progress.stats.answered += 1
        progress.draw()
        counts.append(len(console.file.getvalue().splitlines()))
    assert counts == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(("length", "shown"), [(78, False), (79, True)])
def test_long_settings_that_differ_are_shown_by_their_beginning(length, shown):
    with pytest.raises(InputError) as refused:
        check_compatible({"query": "x" * length}, {"query": "y"}, "out")
    assert (f"query was '{'x' * 78}…, now 'y'" in str(refused.value)) is shown


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([0, FAR, None], pa.int64()).cast(pa.timestamp("us")), "20000-11-22 03:33:20.000000"),
        (pa.array([0, FAR, None], pa.int64()).view(pa.timestamp("us", tz="UTC")), "20000-11-22 03:33:20.000000Z"),
        (pa.array([0, FAR, None], pa.int64()).view(pa.timestamp("us", tz="Europe/Berlin")), "20000-11-22 03:33:20.000000Z"),
        (pa.array([1, 2**60, None], pa.int64()).cast(pa.duration("s")), str(2**60)),
        (pa.array([[1], [2**60], None], pa.list_(pa.int64())).cast(pa.list_(pa.duration("s"))), None),
        (pa.array([b"a", b"b", b"c"]).dictionary_encode(), b"b"),
    ],
)  # fmt: skip
def test_value_that_python_cannot_hold_is_shown_as_text_or_costs_its_row(column, shown):
    first, odd, last = from_arrow(pa.table({"n": [1, 2, 3], "x": column}))
    assert (first.values["n"], last.values["n"], first.why, last.why) == (1, 3, "", "")
    if shown is None:
        assert odd.why.startswith("the column 'x' cannot be read: ")
    else:
        assert odd.values == {"n": 2, "x": shown}


@pytest.mark.parametrize("rows", [0, 1, 7, 90])
def test_rows_of_long_texts_come_in_their_order_however_few_at_a_time(rows):
    texts = [f"{number} " + "x" * 100_000 for number in range(7)]
    table = pa.table(
        {"text": pa.array([texts[number % 7] for number in range(rows)], pa.string()).dictionary_encode()}
    )
    found = [raw.values["text"] for raw in from_arrow(table)]
    assert found == [texts[number % 7] for number in range(rows)]


def test_what_the_admission_says_is_shown_beside_the_rows():
    console = Console(file=io.StringIO(), width=200, color_system=None)
    progress = BatchProgress(console, clock=iter([0.0, 0.0, 3.0]).__next__)
    progress.status(RunStatus(waiting={"rate": 3}, wait_s={"rate": 5.0}))
    progress.draw()
    assert "3 calls wait for the rate limit of the account" in console.file.getvalue()


@pytest.mark.parametrize(
    ("cost_usd", "calls", "unpriced"), [(None, 1, 1), (None, 0, 0), (0.0, 1, 0), (0.5, 2, 0)]
)
def test_row_whose_calls_have_no_price_is_counted(cost_usd, calls, unpriced):
    stats = BatchStats()
    stats.add(RowResult(0, "a", calls=calls, cost_usd=cost_usd))
    assert (stats.unpriced, stats.cost_usd, stats.answered) == (unpriced, cost_usd or 0.0, 1)


@pytest.mark.parametrize("key", ["", "0000000000000001", "00000000000000ff"])
def test_row_that_is_not_done_has_no_key_to_differ_from(key):
    rows = CompletedRows()
    rows.add(9, "00000000000000fe")
    assert [rows.key_mismatch(row, key) for row in (0, 8, 9, 10, 10**6)] == [
        False,
        False,
        bool(key),
        False,
        False,
    ]


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_share_of_a_table_that_was_read_is_known(rows):
    table = open_table(pa.table({"text": ["x"] * rows}))
    assert (table.fraction_read(), table.row_count()) == (0.0, rows)
    shares = [table.fraction_read() for _ in table.read()]
    assert shares == [(number + 1) / rows for number in range(rows)]
    assert list(table.read()) == [RawRow({"text": "x"})] * rows


async def test_rows_of_a_young_job_are_written_after_five_seconds_whenever_it_began(tmp_path):
    now = [1_000.0]
    keeper = PartWriter(BatchOutput(str(tmp_path / "out"), Jsonl()), lambda: now[0])
    keeper.put(RowResult(0, "a"))
    late = []
    for now[0] in (1_004.9, 1_005.0):
        late.append(keeper._late())
    assert late == [False, True]


class Slices:
    """A table that notes which of its rows are read at once."""

    def __init__(self, table):
        self._table, self.columns, self.num_rows, self.read = table, table.columns, table.num_rows, []

    def slice(self, start, size):
        few = self._table.slice(start, size)
        self.read.append((start, few.num_rows))
        return few


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        ({"a": pa.array(["x" * 1_000_000] * 9).dictionary_encode()}, [(0, 4), (4, 4), (8, 1)]),
        ({"a": pa.array(["x" * 1_000_000] * 9).dictionary_encode(), "b": pa.array([b"y" * 1_000_000, None, *[b"y"] * 7]).dictionary_encode()}, [(0, 2), (2, 2), (4, 2), (6, 2), (8, 1)]),
        ({"a": pa.array(["x" * 1_000_000] * 9)}, [(0, 9)]), ({"a": pa.array([7] * 9).dictionary_encode()}, [(0, 9)]),
        ({"a": pa.array(["x" * 9_000_000] * 2).dictionary_encode()}, [(0, 1), (1, 1)]), ({"a": pa.array([None, None], pa.string()).dictionary_encode()}, [(0, 2)]),
        ({"a": pa.array([], pa.string()).dictionary_encode()}, []),
    ],
)  # fmt: skip
def test_rows_of_texts_that_are_stored_once_are_unpacked_a_few_megabytes_at_a_time(columns, read):
    table = Slices(pa.table(columns))
    assert len(list(from_arrow(table))) == table.num_rows
    assert table.read == read


def test_parquet_is_read_in_batches_of_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.parquet_reader._BATCH_BYTES", 4_000)
    texts = [f"{number}" * 1_000 for number in range(10)]
    pq.write_table(pa.table({"text": texts, "n": range(10)}), tmp_path / "t.parquet", use_dictionary=False, compression="none")  # fmt: skip
    told = []
    assert len(list(read_parquet(str(tmp_path / "t.parquet"), 10**6, None, told.append))) == 10
    assert told == [0.3, 0.6, 0.9, 1.0]
    told.clear()
    assert len(list(read_parquet(str(tmp_path / "t.parquet"), 10**6, lambda _: ("n",), told.append))) == 10
    assert told == [1.0]
    monkeypatch.setattr("rlm_ray.batch.parquet_reader._BATCH_BYTES", 10)
    assert [raw.values["text"] for raw in read_parquet(str(tmp_path / "t.parquet"), 10**6)] == texts


def test_completed_rows_take_little_more_than_nine_bytes_each():
    rows = CompletedRows()
    for row in range(20_000):
        rows.add(row, "00000000000000ff")
    assert len(rows._keys) <= 1.3 * 20_000
    assert len(rows._bits) <= 1.3 * 20_000 / 8 + 1
    rows.add(10**6, "")
    assert rows.count == 20_001
    assert len(rows._keys) <= 1.3 * 10**6
