"""What a map-reduce will take, told before it begins."""

from __future__ import annotations

import pytest

from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.document_answers import MAX_DOCUMENTS_PER_CALL
from rlm_ray.core.llm import Price, Usage
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.core.reduce import LABEL_CHARS
from rlm_ray.errors import InputError
from rlm_ray.events.usage import CallStats
from rlm_ray.mapreduce.plan import (
    _ELEMENT_CHARS,
    _ID_CHARS,
    ANSWER_CHARS,
    BYTES_PER_TOKEN,
    RESERVED_TOKENS,
    ModelInfo,
    get_model_info,
    plan,
)
from rlm_ray.mapreduce.spec import parse_spec
from rlm_ray.structured.json_schema import estimate_answer_chars

PRICED = ModelInfo("m", cost=Price(1.0, 10.0).cost)


def prompt_chars(question):
    """The characters that a call sends beside its piece."""
    return sum(len(message.content) for message in leaf_messages(question, "x")) - 1


def test_a_plan_counts_calls_tokens_and_cost():
    context = make_context(["x" * 4_000] * 10)
    planned = plan(parse_spec("Why?", reduce="collect"), context, PRICED, 8_500)
    assert [piece.documents for piece in planned.pieces] == [(n, n + 2) for n in range(0, 10, 2)]
    (load,) = planned.levels
    assert load.calls == 5
    assert 10_000 < load.input_tokens < 11_400
    assert load.output_tokens == 1_562  # ten answers beside their ids
    assert load.cost_usd == pytest.approx(load.input_tokens / 1e6 + load.output_tokens / 1e5, rel=0.01)


def test_a_model_that_reduces_has_its_levels_in_the_plan():
    planned = plan(parse_spec("Why?"), make_context(["x" * 900] * 16), PRICED, 2_600)
    assert [(load.name, load.calls) for load in planned.levels] == [
        ("map", 8),
        ("reduce 1", 2),
        ("reduce 2", 1),
    ]
    assert planned.total.calls == 11


def test_the_table_shows_plan_and_truth():
    planned = plan(parse_spec("Why?", overlap=5, reduce="count"), make_context("x" * 100), PRICED, 50)
    lines = planned.lines(CallStats(calls=3, input_tokens=1_234, output_tokens=5, cost_usd=0.5))
    assert lines[0] == "1 document(s), 100 characters → 3 piece(s) of up to 50 characters, read by m"
    assert lines[1].split() == ["calls", "tokens", "in", "tokens", "out", "cost"]
    assert lines[3].split() == ["used", "3", "1,234", "5", "$0.5000"]
    assert lines[4:] == [
        "answers are taken to have 600 characters each",
        "pieces overlap: what stands where they do is counted twice",
    ]


def test_a_price_nobody_knows_is_not_zero():
    planned = plan(parse_spec("Why?"), make_context("x"), ModelInfo("m"), 50)
    assert planned.total.cost_usd is None
    assert "unknown" in planned.lines()[2]
    assert "unknown" in planned.lines(CallStats(calls=1, unpriced=1))[3]


@pytest.mark.parametrize(
    ("window", "max_leaf_chars", "size"),
    [(None, 0, 100_000), (None, 500, 500), (16_384, 0, 24_576), (20_000, 0, 35_424), (1_000_000, 0, 100_000)],
)
def test_a_piece_fits_the_window_of_its_model(window, max_leaf_chars, size):
    assert ModelInfo("m", window).piece_chars(max_leaf_chars) == size


def test_by_tokens_the_size_is_in_tokens():
    planned = plan(parse_spec("Why?", split_by="tokens"), make_context("x" * 1_000), ModelInfo("m"), 400)
    assert (planned.size, len(planned.pieces)) == (100, 4)
    assert "of up to 100 tokens" in planned.lines()[0]


@pytest.mark.filterwarnings("default")
def test_the_model_is_looked_up():
    known = get_model_info(Settings(model="gpt-4o-mini"), "Some English words, and more of them. " * 50)
    assert known.window_tokens == 128_000
    assert 3 < known.chars_per_token < 6
    own = get_model_info(Settings(model="openai/nobody", prices={"openai/nobody": Price(1, 1)}), "words")
    assert (own.window_tokens, own.chars_per_token) == (None, 4.0)


@pytest.mark.parametrize(
    ("part", "chars"),
    [
        ({"enum": ["ab", "abcd"]}, 5),
        ({"type": "boolean"}, 5),
        ({"type": "string"}, 42),
        ({"type": "string", "maxLength": 8}, 10),
        ({"type": "array", "items": {"enum": ["ab"]}, "minItems": 2, "maxItems": 2}, 14),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 4),
        ({"$ref": "#/$defs/s"}, 6),
    ],
)
def test_the_length_of_an_answer_follows_from_the_schema(part, chars):
    table = {"type": "object", "properties": {"a": part}, "$defs": {"s": {"const": "abcd"}}}
    assert estimate_answer_chars(table) == 7 + chars


def test_a_schema_that_holds_itself_has_some_length():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    assert 0 < estimate_answer_chars({"$ref": "#/$defs/node", "$defs": {"node": node}}) < 1_000


@pytest.mark.parametrize(
    ("window", "chars"), [(None, 50_000), (1_000, 500 * BYTES_PER_TOKEN), (2 * RESERVED_TOKENS, RESERVED_TOKENS * BYTES_PER_TOKEN),
                          (2 * RESERVED_TOKENS + 10, (RESERVED_TOKENS + 10) * BYTES_PER_TOKEN)]
)  # fmt: skip
def test_piece_is_half_of_a_small_window_and_of_a_large_one_all_but_what_is_reserved(window, chars):
    assert ModelInfo("m", window).piece_chars(50_000) == min(chars, 50_000)
    assert ModelInfo("m", window).piece_chars(10**9) == (10**9 if window is None else chars)


def test_reduction_reads_the_answers_of_its_group_with_their_labels():
    spec = parse_spec("Why?")
    planned = plan(spec, make_context(["x" * 900] * 16), PRICED, 2_600)
    _, first, second = planned.levels
    asked = prompt_chars(spec.reduce_question)
    assert first.input_tokens == PRICED.tokens(2 * asked + 8 * (ANSWER_CHARS + LABEL_CHARS))
    assert second.input_tokens == PRICED.tokens(asked + 2 * (ANSWER_CHARS + LABEL_CHARS))
    assert (first.output_tokens, second.output_tokens) == (
        PRICED.tokens(2 * ANSWER_CHARS),
        PRICED.tokens(ANSWER_CHARS),
    )


@pytest.mark.parametrize(
    ("documents", "between"),
    [
        (["ab", "cd", "ef"], 4),
        ([{"id": "x", "text": "ab"}, {"id": "yy", "text": "cd"}], 1 + 2 + 2 * _ID_CHARS - 2),
        (["abcdef"], 0),
    ],
)
def test_piece_counts_what_stands_between_its_documents(documents, between):
    spec = parse_spec("Why?")
    planned = plan(spec, make_context(documents), PRICED, 10_000)
    asked = prompt_chars(spec.map_question)
    chars = sum(len(each if isinstance(each, str) else each["text"]) for each in documents)
    assert planned.levels[0].input_tokens == PRICED.tokens(asked + chars + between)


@pytest.mark.parametrize(
    "documents",
    [["ab", "cd", "ef"], [{"id": "x", "text": "ab"}, {"id": "a longer name", "text": "cd"}, {"id": "ü", "text": "é"}], [{"id": "x", "text": "ab"}]],
)  # fmt: skip
def test_a_call_is_planned_to_read_what_it_reads(documents):
    spec, context = parse_spec("Why?"), make_context(documents)
    (level,) = plan(spec, context, ModelInfo("m", chars_per_token=1.0), 10_000).levels
    messages = leaf_messages(spec.map_question, context.text())
    assert level.input_tokens == sum(len(message.content) for message in messages)


def test_wide_characters_count_as_characters():
    spec = parse_spec("Why?")
    narrow, wide = (plan(spec, make_context(text * 5_000), PRICED, 10_000).levels[0] for text in ("x", "ä"))
    assert narrow.input_tokens == wide.input_tokens


@pytest.mark.parametrize(
    ("answers", "calls"),
    [(2, [1]), (4, [1]), (5, [1, 1]), (6, [2, 1]), (9, [2, 1]), (13, [3, 1]), (16, [4, 1]), (17, [4, 1, 1]), (1, [])],
)  # fmt: skip
def test_a_group_of_one_answer_takes_no_call_to_put_it_together(answers, calls):
    spec, reader = parse_spec("Why?", pack=False), ModelInfo("m", cost=lambda usage: usage.tokens * 1.0)
    size = 4 * (ANSWER_CHARS + LABEL_CHARS)  # four answers fit a call
    map_level, *levels = plan(spec, make_context(["x" * 900] * answers), reader, size).levels
    assert (map_level.name, map_level.calls) == ("map", answers)
    assert [level.calls for level in levels] == calls
    assert [level.name for level in levels] == [f"reduce {number}" for number in range(1, len(calls) + 1)]


def test_calls_are_priced_by_their_mean_as_often_as_there_are():
    seen = []

    def cost(usage):
        seen.append((usage.input_tokens, usage.output_tokens))
        return 0.25

    context = make_context(["x" * 400, "x" * 800, "x" * 1_200])
    spec = parse_spec("Why?", reduce="collect", pack=False)
    planned = plan(spec, context, ModelInfo("m", cost=cost), 2_000)
    (level,) = planned.levels
    assert level.cost_usd == planned.total.cost_usd == 0.75
    assert level.input_tokens == round(
        (2_400 + 3 * len_of_ids("012") // 3 + 3 * prompt_chars(spec.map_question)) / 4
    )
    assert seen == [(level.input_tokens // 3, ANSWER_CHARS // 4)]
    assert level.output_tokens == 3 * ANSWER_CHARS // 4


def len_of_ids(ids):
    """The characters of headers of documents that are each read alone."""
    return sum(len(name) + _ID_CHARS - 2 for name in ids)


def test_a_call_about_several_documents_is_planned_with_their_ids_in_question_and_answer():
    context = make_context([{"id": name, "text": "x" * 100} for name in ("a", "bb", "ccc")])
    spec = parse_spec("Why?", reduce="count")
    (level,) = plan(spec, context, PRICED, 10_000).levels
    headers = sum(len(name) + _ID_CHARS for name in ("a", "bb", "ccc")) - 2
    assert level.input_tokens == PRICED.tokens(
        prompt_chars(spec.question_of_each(["a", "bb", "ccc"])) + 300 + headers
    )
    assert level.output_tokens == PRICED.tokens(6 + 3 * (_ELEMENT_CHARS + ANSWER_CHARS))


def test_a_call_about_one_document_or_by_pieces_is_planned_with_the_plain_question():
    for source, options, headers in (
        ([{"id": "a", "text": "x" * 100}], {"reduce": "count"}, len_of_ids("a")),
        ("x" * 100, {"reduce": "count"}, 0),
        ("x" * 100, {}, 0),
    ):
        spec = parse_spec("Why?", **options)
        (level,) = plan(spec, make_context(source), PRICED, 10_000).levels
        assert level.input_tokens == PRICED.tokens(prompt_chars(spec.map_question) + 100 + headers)
        assert level.output_tokens == PRICED.tokens(ANSWER_CHARS)


def test_answers_of_a_schema_are_planned_by_its_length():
    schema = {"type": "object", "properties": {"a": {"enum": ["x" * 400]}}, "required": ["a"]}
    spec = parse_spec("Why?", schema=schema, pack=False)
    planned = plan(spec, make_context(["x" * 900] * 2), PRICED, 2_000)
    chars = estimate_answer_chars(schema)
    assert chars < ANSWER_CHARS
    assert [level.output_tokens for level in planned.levels] == [
        PRICED.tokens(2 * chars),
        PRICED.tokens(chars),
    ]
    assert planned.levels[1].input_tokens == PRICED.tokens(
        prompt_chars(spec.reduce_question) + 2 * (chars + LABEL_CHARS)
    )
    assert "characters each" not in "".join(planned.lines())


@pytest.mark.parametrize(
    ("source", "options", "by", "size", "pieces"),
    [
        ("x" * 100, {}, "paragraphs", 40, 3), ("x" * 100, {"size": 60}, "paragraphs", 60, 2), ("x" * 100, {"split_by": "tokens"}, "tokens", 10, 4),
        ("x" * 100, {"split_by": "tokens", "size": 5}, "tokens", 5, 7), (["x" * 9] * 4, {}, "documents", 40, 2), (["x" * 9] * 4, {"pack": False}, "documents", 40, 4),
        (["x" * 9] * 4, {"split_by": "paragraphs"}, "paragraphs", 40, 4), (["x" * 100], {}, "documents", 40, 3), ("x" * 100, {"overlap": 20}, "paragraphs", 40, 4),
    ],
)  # fmt: skip
def test_pieces_are_made_by_documents_where_there_are_some_and_as_long_as_is_said(
    source, options, by, size, pieces
):
    planned = plan(parse_spec("Why?", **options), make_context(source), ModelInfo("m"), 40)
    assert (planned.by, planned.size, planned.call_chars, len(planned.pieces)) == (by, size, 40, pieces)
    assert planned.units == planned.pieces


@pytest.mark.parametrize("options", [{"reduce": "count"}, {}])
def test_of_documents_that_are_answered_one_by_one_a_call_holds_a_bounded_number(options):
    context = make_context(["x"] * (2 * MAX_DOCUMENTS_PER_CALL + 1))
    planned = plan(parse_spec("Why?", **options), context, ModelInfo("m"), 10_000)
    held = [piece.documents[1] - piece.documents[0] for piece in planned.pieces]
    assert held == ([MAX_DOCUMENTS_PER_CALL] * 2 + [1] if options else [context.info.documents])
    assert len(planned.units) == (context.info.documents if options else 1)


def test_each_document_that_is_not_empty_is_a_unit_of_its_own():
    planned = plan(
        parse_spec("Why?", reduce="count"), make_context(["ab", "", "c" * 50, "d"]), ModelInfo("m"), 20
    )
    assert [(unit.start, unit.stop, unit.documents) for unit in planned.units] == [
        (0, 2, (0, 1)),
        (2, 52, (2, 3)),
        (52, 53, (3, 4)),
    ]


@pytest.mark.parametrize("source", ["", [""], ["", ""]])
def test_nothing_to_ask_about_is_refused(source):
    with pytest.raises(InputError, match="input: is empty; there is nothing to ask about"):
        plan(parse_spec("Why?"), make_context(source), ModelInfo("m"), 10)


TWO_LEVELS = plan(parse_spec("Why?", pack=False), make_context(["x" * 900] * 3), PRICED, 2_600)


def test_a_plan_is_plain_values_and_its_total_the_sum_of_its_levels():
    first, second = TWO_LEVELS.levels
    levels = [
        {"name": each.name, "calls": each.calls, "input_tokens": each.input_tokens, "output_tokens": each.output_tokens, "cost_usd": each.cost_usd}
        for each in (first, second)
    ]  # fmt: skip
    total = {name: levels[0][name] + levels[1][name] for name in levels[0] if name != "name"}
    assert (first.calls, second.calls, first.output_tokens, second.output_tokens) == (3, 1, 450, 150)
    assert TWO_LEVELS.as_dict() == {
        "model": "m", "documents": 3, "chars": 2_700, "pieces": 3, "split_by": "documents", "size": 2_600, "levels": levels,
        "total": {"name": "in all", **total},
    }  # fmt: skip


def test_the_table_has_its_columns_under_each_other_and_a_total_where_there_are_several_levels():
    head, names, *rows, note = TWO_LEVELS.lines()
    assert head == "3 document(s), 2,700 characters → 3 piece(s) of up to 2,600 characters, read by m"
    assert note == "answers are taken to have 600 characters each"
    assert [row.split()[0] for row in rows] == ["map", "reduce", "in"]
    assert len({len(line) for line in (names, *rows)}) == 1
    assert all(row.index(row.split()[0]) == 0 for row in rows)
    assert names.startswith(" " * len("reduce 1") + "  calls  tokens in  tokens out  ")
    one = plan(parse_spec("Why?", reduce="count"), make_context("x"), PRICED, 50).lines()
    assert [line.split()[0] for line in one[1:]] == ["calls", "map", "answers"]


@pytest.mark.parametrize(
    ("options", "is_said"),
    [
        ({"reduce": "count"}, True), ({"reduce": "sum:n"}, True), ({"reduce": "union:a,collect:b"}, True), ({"reduce": "union"}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_overlap_is_said_to_count_twice_where_things_are_counted(options, is_said):
    for overlap in (0, 5):
        lines = plan(
            parse_spec("Why?", overlap=overlap, **options), make_context("x"), ModelInfo("m"), 50
        ).lines()
        assert any("counted twice" in line for line in lines) is bool(is_said and overlap)


def test_what_is_known_of_the_model_is_its_window_and_the_price_that_is_set():
    usage, price = Usage(1_000_000, 0), Price(3.0, 1.0)
    offline = get_model_info(Settings(), "words")
    assert (offline.name, offline.window_tokens, offline.chars_per_token) == ("offline/extractive", None, 4.0)
    assert offline.cost(usage) == 0
    own = get_model_info(Settings(prices={"offline/extractive": price}), "words")
    assert own.cost(usage) == 3.0
    reading = get_model_info(Settings(model="openai/m", recursive_model="offline/extractive"), "words")
    assert reading.name == "offline/extractive"


@pytest.mark.filterwarnings("default")
def test_a_price_that_is_set_is_taken_before_the_one_that_is_known():
    assert get_model_info(Settings(model="gpt-4o-mini"), "").cost(Usage(1_000_000, 0)) == pytest.approx(0.15)
    own = get_model_info(Settings(model="gpt-4o-mini", prices={"gpt-4o-mini": Price(3.0, 1.0)}), "")
    assert (own.cost(Usage(1_000_000, 0)), own.chars_per_token) == (3.0, 4.0)
    assert get_model_info(Settings(model="openai/nobody"), "").cost(Usage(1, 1)) is None


def test_tokens_of_a_text_are_those_of_its_mean_length():
    assert [ModelInfo("m").tokens(chars) for chars in (0, 1, 3, 4, 10.5)] == [0, 0, 1, 1, 3]
    assert ModelInfo("m", chars_per_token=2.0).tokens(10) == 5
    assert ModelInfo("m").cost(Usage(1, 1)) is None
