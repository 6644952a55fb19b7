"""What a batch counts, how fast it says it is, which rows are done, and how bytes become lines."""

from __future__ import annotations

import io

import pytest
from batch_fakes import FakeJob

from rlm_ray.batch.files import _whole
from rlm_ray.batch.formats import Jsonl, Parquet, ParquetRowGroups
from rlm_ray.batch.job import check_compatible
from rlm_ray.batch.progress import Speed, format_status
from rlm_ray.batch.raw_rows import OversizedLine, Utf8Stream, lines, not_utf8, too_large
from rlm_ray.batch.results import BatchStats, CompletedRows, RowResult, key_of, output_column_name
from rlm_ray.batch.row_processor import RowProcessor, make_task
from rlm_ray.batch.source import Row
from rlm_ray.batch.template import QueryColumn, Template, meant
from rlm_ray.errors import InputError, ModelError


def test_nothing_is_counted_before_there_is_something():
    stats = BatchStats()
    assert {getattr(stats, name) for name in BatchStats.__slots__ if name not in ("share", "limit")} == {0}
    assert (stats.share, stats.limit, stats.expected, stats.done, stats.tokens) == (None, None, None, 0, 0)
    assert RowResult(0, "").as_dict() == {
        "row": 0, "id": "", "answer": None, "error": None, "stop_reason": "", "calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": None,
        "turns": 0, "seconds": 0.0, "run_id": "", "trace_id": "", "key": "",
    }  # fmt: skip


def test_stats_count_answers_failures_tokens_and_what_has_no_price():
    stats = BatchStats()
    stats.add(RowResult(0, "a", calls=2, input_tokens=10, output_tokens=3, cost_usd=0.5))
    stats.add(RowResult(1, "b", error="", calls=1, input_tokens=5, output_tokens=1, cost_usd=None))
    stats.add(RowResult(2, "c", error="why", calls=0, cost_usd=None))
    assert (stats.answered, stats.failed, stats.done) == (1, 2, 3)
    assert (stats.calls, stats.input_tokens, stats.output_tokens, stats.tokens) == (3, 15, 4, 19)
    assert (stats.cost_usd, stats.unpriced) == (0.5, 1)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None), ({"read": 50}, None), ({"read": 50, "share": 0.5}, 100.0), ({"read": 50, "share": 1.0}, None), ({"share": 0.5}, None),
        ({"read": 50, "share": 0.0}, None), ({"limit": 10}, 10), ({"read": 50, "share": 0.5, "limit": 10}, 10), ({"read": 50, "share": 0.5, "limit": 1_000}, 100.0),
        ({"read": 50, "read_all": True, "share": 0.1, "limit": 10}, 50), ({"read": 5, "read_all": True, "previously_completed": 4, "answered": 2, "failed": 1}, 7),
    ],
)  # fmt: skip
def test_rows_in_all_are_told_where_they_can_be(facts, expected):
    assert BatchStats(**facts).expected == expected


def test_speed_is_that_of_the_last_twenty_seconds():
    speed, stats = Speed(), BatchStats()
    seen = []
    for now, done, tokens in (
        (0.0, 0, 0),
        (10.0, 10, 100),
        (20.0, 30, 300),
        (30.0, 50, 500),
        (50.0, 110, 1_100),
    ):
        stats.answered, stats.input_tokens = done, tokens
        seen.append(speed.look(stats, now))
    assert seen == [(0.0, 0.0), (1.0, 10.0), (1.5, 15.0), (2.0, 20.0), (3.0, 30.0)]


@pytest.mark.parametrize(
    ("facts", "rates", "part", "is_said"),
    [
        ({"failed": 1, "failed_earlier": 2}, (0.0, 0.0), "3 failed", True), ({}, (0.0, 0.0), "failed", False), ({"under_way": 4}, (0.0, 0.0), "4 under way", True),
        ({}, (2.0, 0.0), "2.0 rows/s", True), ({}, (0.0, 1.0), "1 tokens/s", True), ({}, (0.0, 0.9), "tokens/s", False), ({"cost_usd": 0.5}, (0.0, 0.0), "$0.50", True),
        ({"cost_usd": 0.5, "unpriced": 1}, (0.0, 0.0), "and more", True), ({"cost_usd": 0.5}, (0.0, 0.0), "and more", False),
        ({"limit": 10, "answered": 4, "previously_completed": 2}, (2.0, 0.0), "about 2s left", True), ({"limit": 10, "answered": 10}, (2.0, 0.0), "left", False),
        ({"limit": 10, "answered": 4}, (0.0, 0.0), "left", False),
    ],
)  # fmt: skip
def test_status_says_what_is_known_only(facts, rates, part, is_said):
    assert (part in format_status(BatchStats(**facts), *rates, 61.0)) is is_said


def test_key_of_a_row_is_the_same_in_every_version():
    assert key_of("q", "id", "text") == KEY
    assert key_of("qi", "d", "text") != KEY
    assert len(KEY) == 16


KEY = "fec13a2a85cc2fb7"


def test_completed_rows_know_their_keys_however_far_apart_they_are():
    rows = CompletedRows()
    for row, key in (
        (0, "00000000000000ff"),
        (7, ""),
        (8, "0000000000000001"),
        (5_000, "ffffffffffffffff"),
        (8, "0000000000000002"),
    ):
        rows.add(row, key)
    assert rows.count == 4
    assert [row in rows for row in (0, 1, 7, 8, 9, 4_999, 5_000, 5_001, 10**7)] == [
        True,
        False,
        True,
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert rows.key_mismatch(0, "00000000000000fe")
    assert not rows.key_mismatch(0, "00000000000000ff")
    assert not rows.key_mismatch(0, "")
    assert not rows.key_mismatch(7, "0000000000000001")
    assert not rows.key_mismatch(7, "00000000000000ff")
    assert not rows.key_mismatch(1, "0000000000000001")
    assert not rows.key_mismatch(8, "0000000000000001")


def test_columns_of_a_schema_stand_behind_the_answer_and_never_hide_ours():
    row = RowResult(3, "a", "x", values={"kind": 1, "answer": 2})
    assert list(row.as_dict()) == [
        "row",
        "id",
        "answer",
        "kind",
        "answer_answer",
        "error",
        *list(RowResult(0, "").as_dict())[4:],
    ]
    assert (output_column_name("kind"), output_column_name("run_id")) == ("kind", "answer_run_id")


@pytest.mark.parametrize(
    ("data", "most", "found"),
    [
        (b"", 9, []), (b"a", 9, [b"a"]), (b"a\n", 9, [b"a"]), (b"a\n\nb", 9, [b"a", b"", b"b"]), (b"a\r\nb\r\n", 9, [b"a", b"b"]), (b"a\rb\r", 9, [b"a", b"b"]),
        (b"a\rb\n", 9, [b"a\rb"]), (b"a\rb", 9, [b"a", b"b"]), (b"a\r", 9, [b"a"]), (b"\xef\xbb\xbfa\n", 9, [b"a"]), (b"abc\nabcd\nab", 3, [b"abc", OversizedLine(4), b"ab"]), (b"abcd", 3, [OversizedLine(4)]),
        (b"ab\r\nabc\r\n", 3, [b"ab", OversizedLine(4)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [1 << 20, 5])
def test_lines_end_as_their_file_says_and_are_bounded(data, most, found, chunk, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.raw_rows.CHUNK", chunk)
    assert list(lines(io.BytesIO(data), most)) == found


WORDS = "Größe und Länge\n" * 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("size", [1 << 20, 7, 1])
def test_text_with_a_mark_or_zeros_in_every_other_byte_becomes_utf8(encoding, size, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.raw_rows.CHUNK", max(size, 40))
    stream = Utf8Stream(io.BytesIO(WORDS.encode(encoding)))
    found = b"".join(iter(lambda: stream.read(size), b""))
    assert found.decode() == WORDS


@pytest.mark.parametrize(
    "data", [b"a\x00b\x00c\x00", b"a\x00bcdefgh", bytes(20), b"", b"\x00\x01\x02\x03" * 20]
)
def test_bytes_that_are_no_text_pass_as_they_are(data):
    assert Utf8Stream(io.BytesIO(data)).read(100) == data


@pytest.mark.parametrize(
    ("text", "is_recoded"),
    [
        ("abcd", True), ("abc", False), ("a" * 14 + "я" * 6, True), ("a" * 13 + "я" * 7, False), ("a" * 18 + "Ā" * 2, True), ("a" * 17 + "Ā" * 3, False),
        ("я" * 20, False), ("a" * 500 + "я" * 500, True), ("a" * 349 + "я" * 651, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_known_by_its_latin_letters(text, is_recoded, encoding):
    data = text.encode(encoding)
    stream = Utf8Stream(io.BytesIO(data))
    found = b"".join(iter(lambda: stream.read(100), b""))
    assert found == (text.encode() if is_recoded else data)
    assert stream.read(100) == b""


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_text_that_ends_within_a_character_is_an_error_and_not_cut_short(encoding):
    stream = Utf8Stream(io.BytesIO(WORDS.encode(encoding)[:-1]))
    with pytest.raises(UnicodeDecodeError, match="truncated data"):
        list(iter(lambda: stream.read(100), b""))


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", ["", "a", "\ufeffa"])
def test_a_mark_is_no_part_of_the_text(mark, text):
    stream = Utf8Stream(io.BytesIO(text.encode(mark)))
    assert stream.read(100).decode() == text


@pytest.mark.parametrize("chunk", [2, 3, 4, 13, 100])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_are_whole_wherever_they_were_cut_when_they_were_read(chunk, end, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.raw_rows.CHUNK", chunk)
    data = [b"", b"a", b"bcdefgh", b"", b"ij", b"klmnopqrstuv", b"w"]
    found = list(lines(io.BytesIO(end.join(data)), 8))
    long = OversizedLine(12 + len(end) - 1)  # a CR counts until the line is known to end there
    assert found == [b"", b"a", b"bcdefgh", b"", b"ij", long, b"w"]


def test_bytes_that_are_not_utf8_are_named_with_their_place():
    for data, why in (
        (b"ab\xff", "is not UTF-8 (byte 0xff at offset 2)"),
        (b"\x0a\xc3", "is not UTF-8 (byte 0xc3 at offset 1)"),
    ):
        with pytest.raises(UnicodeDecodeError) as error:
            data.decode()
        assert not_utf8(error.value) == why


def test_row_above_the_limit_says_both_sizes():
    assert too_large(2_500_000, 1_000_000).why == "is 2.5 MB, above the 1.0 MB of max_row_bytes"


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        ({"query": "q"}, {"query": "q"}, None), ({"query": "q"}, {"query": "q", "new": None}, None), ({"query": "q", "old": ""}, {"query": "q"}, None),
        ({"query": "q"}, {"query": "p"}, "query was 'q', now 'p'"), ({"a": 1, "b": 2, "c": 3, "d": 4}, {}, "a was 1, now None; b was 2, now None; c was 3"),
        ({"leaf_chars": 5}, {"max_leaf_chars": 5}, None),
    ],
)  # fmt: skip
def test_job_is_compared_by_what_shapes_its_answers(before, now, named):
    if named is None:
        check_compatible(before, now, "out")
        return
    with pytest.raises(InputError) as refused:
        check_compatible(before, now, "out")
    assert named.replace("'", "") in str(refused.value).replace('"', "").replace("'", "")
    assert "d was" not in str(refused.value)


@pytest.mark.parametrize(
    ("row", "question", "error"),
    [
        (Row(0, "a", "text"), Template.parse("q"), ""), (Row(0, "a", "  "), Template.parse("q"), "has no text to ask about"), (Row(0, "a", "", {"x": 0}), Template.parse("{x}?"), ""),
        (Row(0, "a", "", {"x": ""}), Template.parse("{x} q"), "has no text to ask about"), (Row(0, "a", "text", error="broken"), Template.parse("q"), "broken"),
        (Row(0, "a", "text", {"q": " "}), QueryColumn("q"), "is missing or empty"),
    ],
)  # fmt: skip
def test_row_is_asked_where_there_is_something_to_ask(row, question, error):
    task = make_task(row, question)
    assert error in task.error
    assert bool(task.error) is bool(error)
    assert bool(task.key) is not bool(error)


@pytest.mark.parametrize(
    ("name", "column"), [("tilte", "Title"), ("TITLE", "Title"), ("body", None), ("titel", "Title")]
)
def test_column_that_is_meant_is_named(name, column):
    assert meant(name, ["Title", "Author"]) == ("" if column is None else f" (did you mean {column!r}?)")


@pytest.mark.parametrize("form", [Jsonl(), Parquet()])
@pytest.mark.parametrize("group_bytes", [1, 16_000_000])
def test_long_file_holds_every_row_in_its_order(form, group_bytes, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.formats._GROUP_BYTES", group_bytes)
    rows = [RowResult(number, str(number), f"a{number}", cost_usd=None).as_dict() for number in range(5)]
    file = io.BytesIO()
    with form.sink(file) as writer:
        for row in rows:
            writer.put(row)
    assert list(form.unpacked(file.getvalue())) == rows
    assert list(form.unpacked(form.packed(rows))) == rows


def test_row_groups_are_written_when_their_answers_make_them_full(monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.formats._GROUP_BYTES", 500)
    written = []
    groups = ParquetRowGroups(lambda rows: written.append(len(rows)))
    for answer in (
        "",
        None,
        "x" * 50,
        "",
        "x" * 150,
    ):  # 200 bytes a row, and two for each character of its answer
        groups.put({"answer": answer})
    assert written == [3, 2]
    groups.flush()
    assert written == [3, 2]
    groups.put({})
    groups.flush()
    assert written == [3, 2, 1]


@pytest.mark.parametrize(
    ("size", "groups"), [(200, [1] * 7), (201, [2, 2, 2, 1]), (400, [2, 2, 2, 1]), (401, [3, 3, 1])]
)
def test_each_row_group_is_counted_from_nothing(size, groups, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.formats._GROUP_BYTES", size)
    written = []
    gathered = ParquetRowGroups(lambda rows: written.append(len(rows)))
    for _ in range(7):
        gathered.put({"answer": ""})
    gathered.flush()
    assert written == groups


@pytest.mark.parametrize(
    ("size", "most", "read"), [(0, 5, 0), (4, 5, 4), (5, 5, 5), (9, 5, 6), (9, 4, 6), (9, 6, 9)]
)
def test_whole_file_is_read_up_to_a_little_more_than_may_be(size, most, read, monkeypatch):
    monkeypatch.setattr("rlm_ray.batch.files.CHUNK", 3)
    assert len(_whole(io.BytesIO(b"x" * size), most)) == read


async def test_seconds_of_a_row_are_those_from_its_question_to_its_answer():
    times = iter([100.0, 102.5, 200.0, 201.0])

    def answer(row, query, context):
        if row:
            raise ModelError("m", "odd")
        return "x"

    processor = RowProcessor(FakeJob(answer), None, lambda: next(times))
    tasks = [make_task(Row(number, "a", "text"), Template.parse("q")) for number in range(2)]
    first, second = [await processor.process(task) for task in tasks]
    assert (first.seconds, first.answer, first.error) == (2.5, "x", None)
    assert (second.seconds, second.answer, second.error, second.stop_reason) == (
        1.0,
        None,
        "ModelError: m: odd",
        "error",
    )
    assert (
        await processor.process(make_task(Row(2, "a", "", error="broken"), Template.parse("q")))
    ).seconds == 0.0
