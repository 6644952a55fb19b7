"""Ranking texts by the words of a query."""

from __future__ import annotations

import re
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.bm25 import rank

TEXTS = st.lists(st.text(alphabet="ab c.Ä_", max_size=30), max_size=10)


def by_the_formula(query, texts):
    """BM25 written down without any care for speed."""
    split = [re.findall(r"\w+", text.lower()) for text in texts]
    mean = sum(map(len, texts)) / max(1, len(texts))
    scores = {}
    for number, words in enumerate(split):
        score = 0.0
        for word in set(re.findall(r"\w+", query.lower())):
            having = sum(word in other for other in split)
            count = words.count(word)
            weight = log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            score += (
                weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(texts[number]) / mean))
                if count
                else 0
            )
        if score:
            scores[number] = score
    return scores


@given(st.text(alphabet="ab cÄ_", max_size=8), TEXTS)
def test_scores_are_those_of_the_formula(query, texts):
    expected = by_the_formula(query, texts)
    found = dict(rank(query, texts, 10))
    assert found == pytest.approx(expected)


@given(st.text(alphabet="ab c", max_size=8), TEXTS, st.integers(0, 4))
def test_the_best_come_first_and_no_more_than_asked(query, texts, top):
    found = rank(query, texts, top)
    scores = [score for _, score in rank(query, texts, 10)]
    assert scores == sorted(scores, reverse=True)
    assert found == rank(query, texts, 10)[:top]


def test_a_rare_word_says_more_than_a_common_one():
    texts = ["the cat and the dog", "the dog and the dog", "the zebra and more", "the dog again and again"]
    assert next(number for number, _ in rank("the zebra", texts, 2)) == 2


def test_parts_of_words_do_not_count():
    assert rank("cat", ["concatenate", "cats", "bobcat", "snake_cat"], 5) == []
    assert [number for number, _ in rank("cat", ["A Cat!", "cat_"], 5)] == [0]


@pytest.mark.timeout(20)
def test_ten_thousand_documents_take_seconds():
    texts = [f"Document {n} speaks of topic {n % 100}. " * 25 for n in range(10_000)]
    found = rank("document 4711", texts, 1)
    assert found[0][0] == 4711


def test_fifty_occurrences_of_a_word_say_as_much_as_more():
    texts = [" ".join(["a"] * count + ["b"] * (60 - count)) for count in (49, 50, 51, 60)]
    scores = dict(rank("a", texts, 4))
    assert scores[0] < scores[1] == scores[2] == scores[3]
