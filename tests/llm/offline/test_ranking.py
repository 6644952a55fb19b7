"""Which passages are found, and that their offsets are exact."""

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray.llm.offline.english import stem, synonyms
from rlm_ray.llm.offline.ranking import SENTENCE_CHARS, WINDOW_CHARS, rank, split_sentences, terms_of

PROSE = st.text(
    st.sampled_from(
        "whale sea. Ahab's\n\n\f\u201c\u201d?!\u3002\u4eba\u5de5\u667a\u80fd\u0130\u00df🐳e\u0301"
    ),
    max_size=3_000,
)


@pytest.mark.parametrize(
    "same",
    [
        "learn learns learned learning learnt",
        "speak spoke spoken speaking",
        "creature creatures creature's creature\u2019s Creature",
        "marry married marries marrying",
        "box boxes",
        "church churches",
        "city cities",
        "stop stopped stopping",
        "fall fell falls falling",
        "make makes made making",
        "happy HAPPY happily",
        "wife wives",
        "read reads reading",
    ],
)
def test_forms_of_a_word_are_one(same):
    """A reader's one word has one stem."""
    assert len({stem(word) for word in same.split()}) == 1


@pytest.mark.parametrize("other", ["leg legal", "made mad", "bus bush", "thing think", "as a", "news new"])
def test_different_words_stay_different(other):
    """Stems do not throw together what only looks alike."""
    one, two = other.split()
    assert stem(one) != stem(two)


def test_words_that_may_stand_for_others():
    """A dance may be a ball, and a word does not stand for itself."""
    assert stem("dancing") in synonyms(stem("ball"))
    assert stem("ball") not in synonyms(stem("ball"))
    assert synonyms("xyzzy") == frozenset()


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
