"""What a map-reduce will take, told before it begins."""

from __future__ import annotations

import pytest

from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.core.llm import Price
from rlm_ray.core.prompts import leaf_messages
from rlm_ray.core.reduce import LABEL_CHARS
from rlm_ray.events.usage import CallStats
from rlm_ray.mapreduce.plan import (
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
    [(None, 0, 100_000), (None, 500, 500), (16_384, 0, 24_576), (1_000_000, 0, 100_000)],
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
    asked = sum(len(message.content) for message in leaf_messages(spec.reduce_question, " ")) - 1
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
    asked = sum(len(message.content) for message in leaf_messages(spec.map_question, " ")) - 1
    chars = sum(len(each if isinstance(each, str) else each["text"]) for each in documents)
    assert planned.levels[0].input_tokens == PRICED.tokens(asked + chars + between)


def test_wide_characters_count_as_characters():
    spec = parse_spec("Why?")
    narrow, wide = (plan(spec, make_context(text * 5_000), PRICED, 10_000).levels[0] for text in ("x", "ä"))
    assert narrow.input_tokens == wide.input_tokens
