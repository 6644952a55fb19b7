"""`RLM.batch` over tables of a program: the same kind comes back, with its types, and the answers beside its rows."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import json
import logging

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
from batch_fakes import FakeJob

from rlm_ray import RLM, Files, InputError, LimitReached, Settings
from rlm_ray.batch.progress import BatchProgress
from rlm_ray.batch.python_api import BatchOptions, _answer_columns, _arguments, run_batch
from rlm_ray.batch.raw_rows import MAX_ROW_BYTES, RawRow
from rlm_ray.batch.tables import open_table
from rlm_ray.errors import ModelError
from rlm_ray.structured.schema import AnswerSchema

polars = pytest.importorskip("polars")

ADDED = ["answer", "error", "stop_reason", "calls", "cost_usd"]
COLUMNS = {
    "text": ["one", None, "three"],
    "day": [dt.date(2024, 1, 2), None, dt.date(2024, 3, 4)],
    "at": [dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC), None, dt.datetime(2024, 3, 4, tzinfo=dt.UTC)],
    "price": [decimal.Decimal("1.10"), None, decimal.Decimal("2.00")],
    "count": [1, None, 3],
    "tags": [["a"], None, ["b", "c"]],
}
ARROW = pa.table(
    {
        **{name: pa.array(values) for name, values in COLUMNS.items()},
        "kind": pa.array(["x", None, "x"]).dictionary_encode(),
    }
)


def pandas_frame():
    frame = pd.DataFrame({name: COLUMNS[name] for name in ("text", "price", "tags", "day")})
    frame["kind"] = pd.Categorical(["x", None, "x"])
    frame["at"] = pd.to_datetime(COLUMNS["at"], utc=True)
    frame["count"] = pd.array(COLUMNS["count"], dtype="Int64")
    frame["mixed"] = [1, "two", dt.date(2024, 1, 1)]
    return frame.set_index(pd.Index([7, 7, 9], name="place"))


async def batch(source, query="What of {price} on {day}?", job=None, settings=None, **options):
    table, summary = await run_batch(
        settings or Settings(), query, source, BatchOptions(**options), (job or FakeJob()).open_any
    )
    return summary if table is None else table


@pytest.fixture(autouse=True)
def _job_with_observers(monkeypatch):
    monkeypatch.setattr(
        FakeJob, "open_any", lambda self, *given, observers=(): self.open(*given), raising=False
    )


async def test_pandas_frame_keeps_its_columns_types_and_index():
    frame = pandas_frame()
    before = frame.copy(deep=True)
    answered = await batch(frame)
    pd.testing.assert_frame_equal(answered[before.columns], before)
    pd.testing.assert_frame_equal(frame, before)
    assert list(answered.columns) == [*before.columns, *ADDED]
    assert answered["answer"].iloc[0] == "What of 1.10 on 2024-01-02?|one"
    assert answered["answer"].isna().tolist() == [False, True, False]
    assert answered["error"].iloc[1] == "the column 'text' is missing"
    assert str(answered["calls"].dtype) == "Int64"


async def test_polars_frame_keeps_its_columns_and_types():
    frame = polars.from_arrow(ARROW)
    answered = await batch(frame)
    assert answered.select(frame.columns).equals(frame)
    assert answered.schema == {
        **frame.schema,
        "answer": polars.String,
        "error": polars.String,
        "stop_reason": polars.String,
        "calls": polars.Int64,
        "cost_usd": polars.Float64,
    }
    assert answered["answer"].to_list() == [
        "What of 1.10 on 2024-01-02?|one",
        None,
        "What of 2.00 on 2024-03-04?|three",
    ]


@pytest.mark.parametrize(
    "source", [ARROW, ARROW.to_batches()[0], ARROW.to_reader()], ids=["table", "record batch", "reader"]
)
async def test_arrow_table_keeps_its_columns_and_types(source):
    answered = await batch(source)
    assert answered.select(ARROW.column_names).equals(ARROW)
    assert answered.schema.names == [*ARROW.schema.names, *ADDED]
    assert answered["answer"].to_pylist()[0] == "What of 1.10 on 2024-01-02?|one"


@pytest.mark.parametrize("make", [list, tuple, iter, lambda rows: (row for row in rows)])
async def test_mappings_come_back_as_dicts_with_their_values(make):
    rows = ARROW.to_pylist()
    answered = await batch(make(rows))
    assert [{name: row[name] for name in rows[0]} for row in answered] == rows
    assert [row["stop_reason"] for row in answered] == ["answered", "error", "answered"]


async def test_texts_come_back_beside_their_answers():
    answered = await batch(["a", "b"], "Q")
    assert [(row["text"], row["answer"]) for row in answered] == [("a", "Q|a"), ("b", "Q|b")]
    assert (await batch(pd.Series(["a"], name="note"), "Q"))["answer"].tolist() == ["Q|a"]


async def test_late_column_with_the_name_of_an_answer_is_kept_under_another():
    rows = [{"text": "a"}] * 200 + [{"text": "b", "answer": "mine"}]
    last = (await batch(rows, "Q"))[-1]
    assert (last["row_answer"], last["answer"]) == ("mine", "Q|b")


async def test_fields_of_a_schema_are_typed_columns():
    schema = {
        "type": "object",
        "properties": {
            "year": {"type": "integer"},
            "names": {"type": "array", "items": {"type": "string"}},
            "error": {"type": "boolean"},
        },
        "required": ["year"],
    }

    def reply(row, query, context):
        return json.dumps({"year": 1800 + row, "names": ["a"], "error": True}) if row != 1 else "{}"

    answered = await batch(pd.DataFrame({"text": ["a", "b"]}), "Q", FakeJob(reply), schema=schema)
    assert answered["year"].dtype == "Int64"
    assert answered["year"].isna().tolist() == [False, True]
    assert answered["names"].iloc[0] == ["a"]
    assert answered["answer_error"].iloc[0]
    assert "does not match the schema" in answered["error"].iloc[1]


async def test_same_call_goes_on_over_the_same_out(tmp_path):
    rows = [{"text": str(number)} for number in range(5)]
    limit = LimitReached("cost_usd", "the cost limit of $1 is reached")
    paused = FakeJob(lambda row, *_: "first" if row < 2 else raise_it(limit), concurrency=1)
    answered = await batch(rows, "Q", paused, out=tmp_path / "out")
    assert [row["answer"] for row in answered] == ["first", "first", None, None, None]
    assert answered[3]["error"] == "not asked: the cost limit of $1 is reached"
    assert answered[3]["stop_reason"] == "cost_usd"
    second = FakeJob(lambda *_: "second")
    answered = await batch(pd.DataFrame(rows), "Q", second, out=tmp_path / "out")
    assert answered["answer"].tolist() == ["first", "first", "second", "second", "second"]
    assert sorted(second.asked) == [2, 3, 4]


def raise_it(error):
    raise error


async def test_without_a_record_what_was_answered_before_an_error_is_kept_and_named(caplog):
    def breaks_at_two(row, query, context):
        if row == 2:
            raise LookupError("a fault of this package")
        return "first"

    rows = [{"text": str(number)} for number in range(5)]
    with caplog.at_level(logging.WARNING), pytest.raises(LookupError):
        await batch(rows, "Q", FakeJob(breaks_at_two, concurrency=1), Settings(run_dir=""))
    (out,) = [record.args[1].split("'")[1] for record in caplog.records]
    answered = await batch(rows, "Q", job := FakeJob(lambda *_: "second"), out=out)
    assert [row["answer"] for row in answered] == ["first", "first", "second", "second", "second"]
    assert sorted(job.asked) == [2, 3, 4]


async def test_without_a_record_what_was_answered_before_a_limit_is_kept_and_named(caplog):
    rows = [{"text": str(number)} for number in range(5)]
    limit = LimitReached("cost_usd", "the cost limit of $1 is reached")
    paused = FakeJob(lambda row, *_: "first" if row < 2 else raise_it(limit), concurrency=1)
    with caplog.at_level(logging.WARNING):
        await batch(rows, "Q", paused, Settings(run_dir=""))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("the cost limit of $1 is reached; the same call with out='")
    answered = await batch(rows, "Q", job := FakeJob(lambda *_: "second"), out=warning.split("'")[1])
    assert [row["answer"] for row in answered] == ["first", "first", "second", "second", "second"]
    assert sorted(job.asked) == [2, 3, 4]


@pytest.mark.parametrize(
    ("reply", "options"),
    [
        (lambda *_: "all", {}), (lambda *_: raise_it(LookupError("at once")), {}),
        (lambda row, *_: "x" if row < 2 else raise_it(LimitReached("calls", "spent")), {"on_limit": "stop"}),
    ],
)  # fmt: skip
async def test_without_a_record_nothing_is_left_where_there_is_nothing_to_go_on_with(
    tmp_path, monkeypatch, caplog, reply, options
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with caplog.at_level(logging.WARNING), contextlib.suppress(LookupError):
        await batch([{"text": "a"}] * 4, "Q", FakeJob(reply, concurrency=1), Settings(run_dir=""), **options)
    assert list(tmp_path.iterdir()) == []
    assert not caplog.records


async def test_failed_rows_are_asked_again_only_when_that_is_said(tmp_path):
    failing = FakeJob(lambda row, *_: "fine" if row else raise_it(ModelError("m", "not today")))
    assert [row["answer"] for row in await batch(["a", "b"], "Q", failing, out=tmp_path / "o")] == [
        None,
        "fine",
    ]
    again = FakeJob()
    assert (await batch(["a", "b"], "Q", again, out=tmp_path / "o"))[0]["error"] == "ModelError: m: not today"
    assert not again.asked
    retried = await batch(["a", "b"], "Q", again, out=tmp_path / "o", retry_failed=True)
    assert ([row["answer"] for row in retried], list(again.asked)) == (["Q|a", "fine"], [0])


async def test_progress_is_shown_only_when_that_is_said(capsys):
    await batch(["a"], "Q")
    assert capsys.readouterr().err == ""
    seen = []

    class Watched(BatchProgress):
        def __exit__(self, *given):
            seen.append(self.stats)
            super().__exit__(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlm_ray.batch.progress.BatchProgress", Watched)
        await batch(["a", "b"], "Q", progress=True)
    assert [stats.answered for stats in seen] == [2]


@pytest.mark.parametrize(
    ("source", "shown"),
    [("x" * 60, f"'{'x' * 60}'"), ("x" * 61, f"'{'x' * 59}…'"), ("This is a text. " * 1_000, "'This is a text. "), ("a\0b", "'a\\x00b'")],
)  # fmt: skip
async def test_text_in_the_place_of_a_path_is_refused_by_its_beginning(source, shown, tmp_path):
    with pytest.raises(InputError) as refused:
        await batch(source, "Q", out=tmp_path / "out")
    assert str(refused.value).startswith(f"source: there is no file {shown}")
    assert str(refused.value).endswith("; check the path, or give texts as a list: [text, ...]")
    assert len(str(refused.value)) < 200


async def test_paths_urls_and_globs_are_files(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    fsspec.filesystem("memory").pipe("/files/in.jsonl", b'{"text": "a"}\n')
    sources = (str(tmp_path / "in.jsonl"), f"{tmp_path}/*.jsonl", "memory://files/in.jsonl")
    for number, source in enumerate(sources):
        assert (await batch(source, "Q", out=tmp_path / str(number))).answered == 1
    with pytest.raises(InputError, match="matches no file"):
        await batch(f"{tmp_path}/*.csv", "Q", out=tmp_path / "none")


async def test_column_and_size_of_the_rows_are_as_they_are_named():
    rows = [{"key": f"k{number}", "body": "x" * (10 * number), "other": "y"} for number in (1, 2, 3)]
    answered = await batch(rows, "Q", text="body", max_row_bytes=20)
    assert [row["answer"] for row in answered] == [f"Q|{'x' * 10}", f"Q|{'x' * 20}", None]
    assert answered[2]["error"] == "is 0.0 MB, above the 0.0 MB of max_row_bytes"


@pytest.mark.parametrize("make", [list, iter, pd.DataFrame, pa.Table.from_pylist])
async def test_answers_of_rows_that_are_gone_are_left_out(tmp_path, make):
    rows = [{"text": str(number)} for number in range(5)]
    await batch(rows, "Q", out=tmp_path / "out")
    answered = await batch(make(rows[:3]), "Q", job := FakeJob(), out=tmp_path / "out")
    answers = answered["answer"] if hasattr(answered, "columns") else [row["answer"] for row in answered]
    assert pa.array(answers).to_pylist() == ["Q|0", "Q|1", "Q|2"]
    assert not job.asked


async def test_a_batch_is_one_run_of_its_question_with_whoever_looks_on(monkeypatch):
    job, opened = FakeJob(), []

    def open_run(settings, query, *, run_id, observers):
        opened.append((settings, query, run_id, len(observers)))
        return job.open(settings, run_id, query)

    monkeypatch.setattr("rlm_ray.batch.python_api.open_batch_run", open_run)
    settings = Settings(run_dir="")
    _, summary = await run_batch(settings, "Q", ["a"], BatchOptions())
    assert opened == [(settings, "Q", summary.run_id, 1)]
    assert job.opened == [summary.run_id]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 9])
async def test_rows_beyond_the_limit_are_blank_and_those_before_it_say_why_they_were_not_asked(limit):
    rows = [{"text": str(number)} for number in range(3)]
    spent = FakeJob(
        lambda row, *_: "x" if not row else raise_it(LimitReached("calls", "spent")), concurrency=1
    )
    answered = await batch(rows, "Q", spent, Settings(run_dir=""), limit=limit)
    blank = (None, None, None)
    first, undone = ("x", None, "answered"), (None, "not asked: spent", "calls")
    expected = [first, undone, undone][:limit] + [blank] * (3 - limit)
    assert [(row["answer"], row["error"], row["stop_reason"]) for row in answered] == expected


def test_columns_that_a_table_gets_are_typed_and_have_their_prefix():
    schema = pa.schema([pa.field("year", pa.int64()), pa.field("error", pa.bool_())])
    columns = _answer_columns(schema, "my_")
    assert {name: (field.name, str(field.type)) for name, field in columns.items()} == {
        "answer": ("my_answer", "string"), "year": ("my_year", "int64"), "answer_error": ("my_answer_error", "bool"), "error": ("my_error", "string"),
        "stop_reason": ("my_stop_reason", "string"), "calls": ("my_calls", "int64"), "cost_usd": ("my_cost_usd", "double"),
    }  # fmt: skip
    assert list(_answer_columns(None, "")) == ADDED


def test_a_batch_is_noted_as_the_command_line_would_be_given_it(tmp_path):
    files = Files(tmp_path, "b.txt", include=["*.md"], exclude=["x/"], encoding="latin-1")
    schema = AnswerSchema.of({"type": "object", "properties": {"n": {"type": "integer"}}})
    options = BatchOptions(
        out=tmp_path / "o", text="t", id="i", query_column="q", limit=3, max_row_bytes=9, on_limit="stop"
    )
    assert _arguments(None, files, schema, options) == {
        "question": None, "source": [str(tmp_path), "b.txt"], "out": str(tmp_path / "o"), "text": "t", "ident": "i", "question_column": "q",
        "schema": schema.table, "limit": 3, "max_row_bytes": 9, "on_limit": "stop", "include": files.include, "exclude": files.exclude,
        "encoding": files.encoding,
    }  # fmt: skip
    plain = {
        "question": "Q", "out": None, "text": None, "ident": None, "question_column": None, "schema": None, "limit": None,
        "max_row_bytes": MAX_ROW_BYTES, "on_limit": "pause",
    }  # fmt: skip
    for source, named in (
        (None, []),
        ("a.txt", ["a.txt"]),
        (tmp_path, [str(tmp_path)]),
        ([tmp_path], [str(tmp_path)]),
    ):
        assert _arguments("Q", source, None, BatchOptions()) == plain | {"source": named}


async def test_limit_leaves_later_rows_without_an_answer():
    answered = await batch(pd.DataFrame({"text": ["a", "b", "c"]}), "Q", limit=1)
    assert answered["answer"].isna().tolist() == [False, True, True]
    assert answered["error"].isna().all()
    endless = await batch(({"text": str(n)} for n in iter(int, 1)), "Q", limit=2)
    assert [row["answer"] for row in endless[:3]] == ["Q|0", "Q|0", None]


async def test_prefix_names_the_columns_of_a_second_question():
    frame = await batch(pd.DataFrame({"text": ["a"]}), "Q")
    with pytest.raises(
        InputError, match="has a column 'answer' already, as the answers would; give prefix='second_'"
    ):
        await batch(frame, "R")
    again = await batch(frame, "R", prefix="second_", text="text")
    assert (again["answer"].tolist(), again["second_answer"].tolist()) == (["Q|a"], ["R|a"])


async def test_each_row_may_bring_its_question():
    rows = [{"ask": "Who?", "text": "a"}, {"ask": "", "text": "b"}]
    answered = await batch(rows, None, query_column="ask")
    assert [row["answer"] for row in answered] == ["Who?|a", None]


async def test_files_go_to_out_and_a_summary_comes_back(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    summary = await batch(tmp_path / "in.jsonl", "Q", out=tmp_path / "out.jsonl")
    assert (summary.answered, summary.failed, summary.out) == (2, 0, str(tmp_path / "out.jsonl"))
    assert [json.loads(line)["answer"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        "Q|a",
        "Q|b",
    ]
    assert (await batch([tmp_path / "in.jsonl"], "Q", out=str(tmp_path / "out.jsonl"))).earlier == 2
    assert (await batch(Files(tmp_path / "in.jsonl"), "Q", out=tmp_path / "out.jsonl")).earlier == 2


@pytest.mark.parametrize(
    ("source", "options", "why"),
    [
        (__file__, {}, "out: is missing; name a folder, or FILE.jsonl or FILE.parquet"),
        ("in.jsonl", {}, "source: there is no file .in.jsonl.; check the path"),
        ({"text": "a"}, {}, "source: is files, a dataframe, .*; got dict"),
        (7, {}, "source: is files, a dataframe, .*; got int"),
        (b"a", {}, "source: is files, a dataframe, .*; got bytes"),
        (["a"], {"limt": 3}, "limt: is no keyword of batch; did you mean 'limit'"),
        (["a"], {"limit": -1}, "limit: must be a whole number of rows"),
        (["a"], {"limit": True}, "limit: must be a whole number of rows"),
        (["a"], {"on_limit": "go"}, "on_limit: must be pause or stop"),
        (["a"], {"query_column": "q"}, "query: is given, and query_column, too"),
        (["a"], {"schema": {"type": "string"}}, "must describe an object with properties"),
        (
            [{"a": "x", "b": "y"}],
            {},
            "has no column `text`, and not just one with texts; name one with text=",
        ),
        ([{"a": "x"}], {"text": "b"}, "has no column 'b'"),
        (pd.DataFrame([["x", "y"]], columns=["a", "a"]), {}, "has two columns 'a'"),
        (pd.DataFrame([["x", "y"]], columns=[1, "1"]), {}, "has two columns '1'"),
        (pd.DataFrame({("a", "b"): ["x"]}), {}, "has columns of several levels"),
        (polars.LazyFrame({"text": ["a"]}), {}, "is a polars LazyFrame; collect\\(\\) it first"),
    ],
)
async def test_what_cannot_be_asked_about_is_refused_with_what_to_do(source, options, why):
    with pytest.raises(InputError, match=why):
        await batch(source, "Q", **options)


@pytest.mark.parametrize("query", [None, 7, "", " "])
async def test_missing_question_is_refused(query):
    with pytest.raises(InputError, match="query"):
        await batch(["a"], query)


async def test_other_question_over_the_same_out_is_refused_in_words_of_python(tmp_path):
    await batch(["a"], "Q", out=tmp_path / "out")
    with pytest.raises(InputError, match="give another out=, or start anew with restart=True"):
        await batch(["a"], "R", out=tmp_path / "out")
    assert [row["answer"] for row in await batch(["a"], "R", out=tmp_path / "out", restart=True)] == ["R|a"]


@pytest.mark.parametrize(
    "frame", [pd.DataFrame({"text": []}), ARROW.slice(0, 0), polars.DataFrame({"text": []}), []]
)
async def test_table_without_rows_comes_back_with_the_columns(frame):
    answered = await batch(frame, "Q")
    assert len(answered) == 0
    if not isinstance(answered, list):
        names = answered.column_names if isinstance(answered, pa.Table) else list(answered.columns)
        assert names[-len(ADDED) :] == ADDED


def test_method_refuses_before_anything_starts():
    with pytest.raises(InputError, match="did you mean 'prefix'"):
        RLM().batch("Q", ["a"], prefx="x")


@pytest.mark.parametrize(
    "make", [pd.DataFrame, polars.DataFrame, pa.table, lambda columns: pa.table(columns).to_batches()[0]], ids=["pandas", "polars", "table", "batch"]
)  # fmt: skip
@pytest.mark.parametrize("rows", [0, 1, 256, 257, 600])
def test_rows_of_a_table_are_read_in_their_order_however_many(make, rows):
    if not rows and make not in (pd.DataFrame, polars.DataFrame, pa.table):
        return  # there is no batch of no rows
    table = open_table(make({"text": [str(number) for number in range(rows)], "n": list(range(rows))}))
    assert table.row_count() == rows
    for _ in range(2):
        assert list(table.read()) == [RawRow({"text": str(n), "n": n}) for n in range(rows)]
    assert table.fraction_read() == (1.0 if rows else 0.0)


def test_values_of_a_frame_that_have_no_one_type_are_read_as_they_are():
    mixed = pd.DataFrame({
        "text": ["a", "b", "c", "d"], "x": [1, "two", None, float("nan")], "t": pd.to_datetime(["2024-01-02", None, None, None]), "n": [1.5, None, 2.0, 3.0],
    })  # fmt: skip
    first, second, *others = [dict(raw.values) for raw in open_table(mixed).read()]
    assert first == {"text": "a", "x": 1, "t": pd.Timestamp("2024-01-02"), "n": 1.5}
    assert second == {"text": "b", "x": "two", "t": None, "n": None}
    assert [row["x"] for row in others] == [None, None]


def test_columns_of_a_frame_are_named_by_text():
    table = open_table(pd.DataFrame([["x", 5]], columns=["text", 7]))
    assert list(table.read()) == [RawRow({"text": "x", "7": 5})]


@pytest.mark.parametrize(("name", "column"), [("note", "note"), (None, "text"), ("", "text")])
def test_a_series_is_a_column_of_its_name(name, column):
    assert list(open_table(pd.Series(["x"], name=name)).read()) == [RawRow({column: "x"})]


@pytest.mark.parametrize("source", ["a.csv", Files("a.csv")])
def test_names_of_files_are_no_table(source, tmp_path):
    assert open_table(source) is None
    assert open_table(tmp_path) is open_table([tmp_path]) is open_table((tmp_path, tmp_path)) is None
    assert open_table([]).row_count() == open_table(["a.csv"]).row_count() - 1 == 0
    assert open_table([tmp_path, "text"]).row_count() == 2


def test_what_an_iterator_gave_is_kept_and_a_list_is_as_long_as_it_is():
    once, often = open_table(iter(["a", {"b": 1}, "c"])), open_table(["a", {"b": 1}])
    rows = once.read()
    next(rows)
    next(rows)
    assert (once.row_count(), often.row_count()) == (2, 2)
    answers = pa.table({"answer": ["1", "2"]})
    assert once.with_answers(answers) == often.with_answers(answers) == [
        {"text": "a", "answer": "1"}, {"b": 1, "answer": "2"},
    ]  # fmt: skip
    assert once.name == often.name == open_table(pa.table({"text": ["a"]})).name


async def test_answers_of_a_frame_keep_their_types_where_some_are_missing():
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["n", "ok", "tags"],
    }  # fmt: skip

    def reply(row, query, context):
        return json.dumps({"n": 5, "ok": False, "tags": ["a"]}) if row else "no"

    frame = pd.DataFrame({"text": ["a", "b"]}, index=[3, 3])
    answered = await batch(frame, "Q", FakeJob(reply), schema=schema)
    assert {name: str(answered[name].dtype) for name in ("n", "ok", "tags")} == {"n": "Int64", "ok": "boolean", "tags": "object"}  # fmt: skip
    assert answered["tags"].tolist() == [None, ["a"]]
    assert (answered["n"].tolist()[1], bool(answered["ok"].tolist()[1])) == (5, False)
    assert answered.index.tolist() == [3, 3]
    assert list(frame.columns) == ["text"]
