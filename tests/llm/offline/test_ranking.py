"""Which passages are found, and that their offsets are exact."""

import math
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray.llm.offline.english import stem, synonyms
from rlm_ray.llm.offline.ranking import SENTENCE_CHARS, WINDOW_CHARS, rank, score, split_sentences, terms_of

PROSE = st.text(
    st.sampled_from(
        "whale sea. Ahab's\n\n\f\u201c\u201d?!\u3002\u4eba\u5de5\u667a\u80fd\u0130\u00df🐳e\u0301"
    ),
    max_size=3_000,
)


@pytest.fixture(autouse=True)
def without_earlier_words():
    """What another test asked for must not answer here."""
    stem.cache_clear()
    synonyms.cache_clear()


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("What is Captain Ahab's leg made of?", ("captain", "ahab", "leg", "made")),
        ("Who was he?", ("who", "was", "he")),
        ("Whales, whale, WHALE!", ("whales",)),
        ("人工智能", ("人", "工", "智", "能")),
        ("", ()),
    ],
)
def test_terms_are_the_words_that_matter_in_order(question, terms):
    """The words that matter, once each, in order; all words if none of them says anything."""
    assert terms_of(question) == terms


@given(st.text(max_size=40), PROSE)
@example("whale", "whale")
@example("\u0130", "\u0130\u0130 whale")
def test_offsets_are_exact_and_passages_apart(question, text):
    """Passages lie inside the text, do not overlap, have no white space around them, and come best first."""
    ranking = rank(question, text, 6)
    for passage in ranking.passages:
        quoted = text[passage.start : passage.stop]
        assert 0 <= passage.start < passage.stop <= len(text)
        assert quoted == quoted.strip()
        assert "\f" not in quoted
        assert len(quoted) <= WINDOW_CHARS
    places = sorted((p.start, p.stop) for p in ranking.passages)
    assert all(a[1] <= b[0] for a, b in pairwise(places))
    assert [p.score for p in ranking.passages] == sorted((p.score for p in ranking.passages), reverse=True)
    assert rank(question, text, 6) == ranking


@given(PROSE)
def test_sentences_cover_the_text(text):
    """Nothing but white space is left between sentences, and none is too long."""
    position = 0
    for start, stop in split_sentences(text):
        assert start - position >= 0
        assert not text[position:start].strip()
        assert stop - start <= SENTENCE_CHARS
        position = stop
    assert not text[position:].strip()


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", []), (" \n\f ", [(2, 2)]), ("One. Two! Three? Four\u2026 five", [(0, 4), (5, 9), (10, 16), (17, 22), (23, 27)]),
        ('He said "Go." Then left', [(0, 13), (14, 23)]), ("Mr.X has 3.5 apples", [(0, 19)]), ("one line\nof two", [(0, 15)]),
        ("head\n \t\n  body", [(0, 4), (10, 14)]), ("\u4e00\u3002\u4e8c\uff01\uff1f\u4e09", [(0, 2), (2, 5), (5, 6)]),
        ("a\fb", [(0, 1), (1, 1), (2, 3)]), ("a.\n\n\f\nb", [(0, 2), (2, 2), (6, 7)]), ("  a  ", [(2, 3)]),
        ("x" * 500, [(0, 500)]), ("x" * 501, [(0, 500), (500, 501)]), ("x" * 1_001, [(0, 500), (500, 1_000), (1_000, 1_001)]),
        ("x" * 499 + " " + "y" * 9, [(0, 499), (500, 509)]), ("x " + "y" * 600, [(0, 1), (2, 502), (502, 602)]),
        ("x" * 300 + " " + "y" * 150 + " " + "z" * 150, [(0, 451), (452, 602)]), ("x" * 300 + "  \n" + "y" * 300, [(0, 301), (303, 603)]),
    ],
)  # fmt: skip
def test_sentences_end_where_they_do_or_at_500_characters(text, spans):
    assert list(split_sentences(text)) == spans


def passages(question, text, limit=9):
    return [(each.start, each.stop, dict(each.strengths)) for each in rank(question, text, limit).passages]


@pytest.mark.parametrize(
    ("lengths", "between", "stop"),
    [
        ([350, 349], " ", 700), ([350, 350], " ", 350), ([200, 200, 200, 97], " ", 700), ([200, 200, 200, 98], " ", 602), ([10, 10], "\f", 10),
        ([500, 199], "\n\n", 500), ([500, 198], "\n\n", 700),
    ],
)  # fmt: skip
def test_passage_is_as_many_whole_sentences_as_700_characters_hold(lengths, between, stop):
    first, *others = lengths
    text = between.join(["whale".ljust(first - 1, "-") + "."] + ["-" * (each - 1) + "." for each in others])
    assert passages("whale", text)[0][:2] == (0, stop)


@pytest.mark.parametrize(("first", "is_near"), [(500, True), (501, False)])
def test_word_that_stands_1500_characters_before_counts_half(first, is_near):
    filler = "-" * 498 + ". "
    text = "sea".ljust(first - 2, "-") + ". " + filler * 2 + "whale".ljust(300, "-") + ". " + filler
    found = {start: strengths for start, _, strengths in passages("whale sea", text)}
    assert found[first + 1_000] == ({"whale": 1.0, "sea": 0.5} if is_near else {"whale": 1.0})


@pytest.mark.parametrize(("distance", "is_near"), [(499, True), (500, False)])
def test_word_that_stands_500_characters_behind_counts_half(distance, is_near):
    text = "whale".ljust(498, "-") + ". " + "-" * (distance - 3) + ". " + "sea".ljust(400, "-") + "."
    assert text.index("sea") == 499 + distance
    found = {start: strengths for start, _, strengths in passages("whale sea", text)}
    assert found[0] == ({"whale": 1.0, "sea": 0.5} if is_near else {"whale": 1.0})


@pytest.mark.parametrize(
    ("text", "strengths"),
    [
        ("Ships.", {"ship": 1.0}), ("A ship, a ship.", {"ship": 2.0}), ("A vessel.", {"ship": 0.5}), ("The boat and the ship's vessels.", {"ship": 2.0}),
        ("A ship at sea.", {"ship": 1.0, "sea": 1.0}), ("A sea.", {"sea": 1.0}), ("A ship." + "\f" + "The sea, the sea.", {"ship": 1.0, "sea": 0.5}),
        ("A ship." + "\f" + "A ship.", {"ship": 1.5}), ("A ship." + "\f" + "A boat.", {"ship": 1.25}), ("A ship." + "\f" + "A boat, a ship, a boat.", {"ship": 1.5}),
    ],
)  # fmt: skip
def test_strength_is_how_often_a_word_stands_there_and_half_of_what_stands_near(text, strengths):
    """A word that may stand for another counts half."""
    found = {start: strengths for start, _, strengths in passages("ship sea", text)}
    assert found[0] == strengths


@pytest.mark.parametrize(
    ("length", "windows"), [(0, 1), (699, 1), (700, 1), (1_399, 1), (1_400, 2), (7_000, 10)]
)
def test_windows_of_a_text_are_counted_and_those_that_hold_a_word(length, windows):
    found = rank("whale ship", ("whale boat whale. " * 400)[:length].ljust(length), 1)
    assert found.windows == windows
    assert found.counts == dict.fromkeys(("whale", "ship"), math.ceil(length / 700))
    assert rank("whale ship", "The whale, the whale." + "." * length, 1).counts == {"whale": 1, "ship": 0}


@pytest.mark.parametrize(
    ("strengths", "counts", "expected"),
    [
        ({}, {}, 0.0), ({"a": 1.5}, {"a": 2}, math.log(1 + 8.5 / 2.5) / 2), ({"a": 1.5}, {"a": 0}, math.log(22) / 2), ({"a": 3.0}, {"a": 10}, math.log(1 + 0.5 / 10.5) * 2 / 3),
        ({"a": 1.5}, {"a": 11}, math.log(1 + 0.5 / 10.5) / 2), ({"a": 1.5, "b": 0.5}, {"a": 2, "b": 0, "c": 9}, math.log(1 + 8.5 / 2.5) / 2 + math.log(22) / 4),
    ],
)  # fmt: skip
def test_score_is_bm25_of_ten_windows(strengths, counts, expected):
    """Of k1 = 1.5 and without length."""
    assert score(strengths, 10, counts) == pytest.approx(expected)


def test_as_many_passages_as_are_asked_for_best_first():
    text = "\f".join(f"Whale {'whale ' * number}ends{number}." for number in range(9))
    best = [text[start:stop] for start, stop, _ in passages("whale", text, 3)]
    assert [quoted[-2] for quoted in best] == ["8", "7", "6"]
    assert passages("whale", text, 0) == []


def test_passages_may_touch_and_equal_ones_come_in_their_order():
    text = "".join("\u9be8" + each * 399 + "\u3002" for each in "\u4e00\u4e8c\u4e09")
    assert [each[:2] for each in passages("\u9be8", text)] == [(0, 401), (401, 802), (802, 1_203)]


def test_the_rarer_word_decides():
    """A word that stands everywhere says less than one that stands once."""
    common = "The whale swam in the sea near the ship. " * 60
    text = f"{common}\n\nThe doubloon was nailed to the mast.\n\n{common}"
    best = rank("Where is the doubloon of the whale?", text, 1).passages[0]
    assert "doubloon" in text[best.start : best.stop]


def test_the_same_passage_is_not_quoted_twice():
    """Near duplicates are dropped."""
    text = ("The whale is white and very large indeed. " + "\f") * 5 + "Another whale was grey."
    assert len(rank("whale", text, 5).passages) == 2


def test_nothing_to_find():
    """No text and no match give no passage."""
    assert rank("whale", "", 5).passages == ()
    assert rank("whale", "The cat sat.", 5).passages == ()
    assert rank("", "The cat sat.", 5).passages == ()


def test_one_giant_line():
    """A text without any border is cut all the same."""
    text = "x" * 100_000 + "whale" + "y" * 100_000 + " whale " + "z" * 100_000
    best = rank("whale", text, 1).passages[0]
    assert "whale" in text[best.start : best.stop]
    assert best.stop - best.start <= WINDOW_CHARS


def test_scripts_without_spaces():
    """Pairs of characters stand for words where words are not parted."""
    text = "今日は天気がいい。" * 50 + "白鯨は船を沈めた。" + "海は広い。" * 50
    best = rank("白鯨は何をした?", text, 1).passages[0]
    assert "白鯨は船を沈めた" in text[best.start : best.stop]


@pytest.mark.parametrize("filler", [" ", "\n", ". ", "\f", "\u201d", "?!", "a" * 700 + "\n", "\u4eba"])
def test_odd_texts_take_no_more_than_their_share(filler):
    """Half a megabyte of anything takes less than seconds, not minutes."""
    text = (filler * 500_000)[:500_000] + " the whale swam"
    began = time.process_time()
    assert rank("whale", text, 5).passages
    assert time.process_time() - began < 10
