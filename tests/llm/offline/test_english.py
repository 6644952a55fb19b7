"""Which words the offline model takes for one, and which for another."""

import pytest

from rlm_ray.llm.offline.english import stem, synonyms


@pytest.fixture(autouse=True)
def without_earlier_words():
    """What another test asked for must not answer here."""
    stem.cache_clear()
    synonyms.cache_clear()


@pytest.mark.parametrize(
    "same",
    [
        "learn learns learned learning learnt",
        "speak spoke spoken speaking",
        "creature creatures creature's creature\u2019s Creature",
        "marry married marries marrying",
        "box boxes boxed",
        "church churches",
        "dish dishes",
        "glass glasses",
        "virus viruses",
        "city cities",
        "fly flies",
        "tie ties",
        "stop stopped stopping",
        "plan planned planning plans",
        "pet petted petting",
        "egg egged egging eggs",
        "add added adding",
        "pass passed passing passes",
        "buzz buzzed buzzing",
        "fall fell falls falling",
        "make makes made making",
        "play plays played playing",
        "say says said saying",
        "day days",
        "see seeing seen saw",
        "happy HAPPY happily",
        "quick quickly",
        "mark marked markedly",
        "amaze amazing amazingly amazed",
        "wife wives",
        "read reads reading",
        "whale whales whale\u2019s WHALES",
    ],
)
def test_forms_of_a_word_are_one(same):
    """A reader's one word has one stem."""
    assert len({stem(word) for word in same.split()}) == 1


@pytest.mark.parametrize(
    "other",
    [
        "leg legal", "made mad", "bus bush", "bus bu", "thing think", "thing th", "string str", "sing s", "as a", "news new",
        "gas ga", "this thi", "glass glas", "analysis analysi", "focus focu", "bed b", "aged ag", "only on", "day dai", "view viewer",
        "rose rosy", "tree tread",
    ],
)  # fmt: skip
def test_different_words_stay_different(other):
    """Stems do not throw together what only looks alike."""
    one, two = other.split()
    assert stem(one) != stem(two)


@pytest.mark.parametrize(
    "word", ["sea", "owl", "gas", "ate\u0301s", "er\u00f6ffnetes", "\u0433\u043e\u0440\u043e\u0434s"]
)
def test_short_words_and_those_of_other_alphabets_have_no_endings(word):
    assert stem(word.upper()) == word.lower()


@pytest.mark.parametrize("word", ["sing", "king", "thing", "spring", "bring", "fled", "shed", "fly", "sly"])
def test_what_is_left_without_an_ending_has_three_letters_and_a_vowel(word):
    assert stem(word) == word


def test_words_that_may_stand_for_others():
    """A dance may be a ball, and a word does not stand for itself."""
    assert stem("dancing") in synonyms(stem("ball"))
    assert stem("ball") not in synonyms(stem("ball"))
    assert synonyms(stem("ships")) == {stem("vessel"), stem("boat")}
    assert synonyms("xyzzy") == frozenset()
