"""English words for the offline model: which say nothing, how they bend, which may stand for each other.

Nothing here is needed for other languages to work; there, words just match as they are written.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
"""A word in any script; an apostrophe inside belongs to it."""

STOP_WORDS = frozenset(
    """
    a about above after again all also am an and any anyone are as at be because been before being between both
    but by can context could describe did do does doing done during each either else ever every explain few find first
    for from get gets give happen happened happens had has have having he her here hers herself him himself his how i if in into is it its itself
    just let like list look looks many may me might mine more most mr mrs ms dr much must my myself name no nor not now of off on
    once one only or other our ours out over own passage please question quote shall she should show so some
    someone something such text than that the their theirs them then there these they thing this those through time to
    too under until up upon us very was we were what whatever when where whether which while who whom whose why
    will with would yes yet you your yours
    """.split()  # noqa: SIM905 - words read better than a list of quoted words
)

_IRREGULAR = MappingProxyType(
    {
        form: word
        for word, forms in {
            "become": "became", "begin": "began begun", "break": "broke broken", "bring": "brought",
            "build": "built", "burn": "burnt", "buy": "bought", "catch": "caught", "child": "children",
            "choose": "chose chosen", "come": "came", "dance": "danced dances dancing", "death": "deaths",
            "die": "died dies dying", "drive": "drove driven", "eat": "ate eaten", "fall": "fell fallen",
            "feel": "felt", "fight": "fought", "foot": "feet", "forget": "forgot forgotten",
            "get": "got gotten", "go": "went gone goes", "grow": "grew grown", "hear": "heard",
            "hide": "hid hidden", "hold": "held", "keep": "kept", "know": "knew known", "lead": "led",
            "learn": "learnt", "leave": "left", "life": "lives", "lose": "lost", "make": "made",
            "man": "men", "marry": "married marries", "mean": "meant", "meet": "met", "pay": "paid",
            "person": "people", "read": "reads reading", "run": "ran", "say": "said says saith",
            "see": "saw seen", "seek": "sought", "sell": "sold", "send": "sent", "show": "shown",
            "speak": "spoke spoken", "spend": "spent", "stand": "stood", "steal": "stole stolen",
            "swim": "swam swum", "take": "took taken", "teach": "taught", "tell": "told",
            "think": "thought", "wear": "wore worn", "wife": "wives", "win": "won", "woman": "women",
            "write": "wrote written",
        }.items()
        for form in forms.split()
    }
)  # fmt: skip

_ALIKE = tuple(
    frozenset(group.split())
    for group in (
        "ball dance assembly",
        "say tell reply answer cry exclaim",
        "speak language word talk utter tongue",
        "read book letter volume",
        "learn teach study instruct acquire knowledge lesson",
        "make form fashion construct build compose",
        "die death dead perish",
        "kill murder slay strangle destroy",
        "marry marriage wife husband wedding",
        "creature monster fiend daemon wretch",
        "ship vessel boat",
        "house home mansion estate",
        "money fortune wealth rich income",
        "fear afraid terror dread",
        "begin start commence",
        "end finish conclude conclusion",
        "error exception failure fail",
        "cost price fee charge",
        "company firm corporation",
        "buy purchase",
        "increase rise grow growth",
        "decrease decline drop",
        "cause reason because",
        "job profession occupation employment",
        "love affection attachment",
        "angry anger rage fury wrath",
    )
)


def plain(word: str) -> str:
    """Return a word in lower case, without a possessive ending."""
    return word.lower().replace("\u2019", "'").removesuffix("'s")


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return a word in lower case without its endings: the same for words that a reader would call the same."""
    word = plain(word)
    word = _IRREGULAR.get(word, word)
    if len(word) <= 3 or not word.isascii():
        return word
    return _strip_suffix(_singular(word))


@lru_cache(maxsize=4_096)
def synonyms(stemmed: str) -> frozenset[str]:
    """Return the stems of words that may stand for this one."""
    groups = [frozenset(map(stem, group)) for group in _ALIKE]
    near = frozenset().union(*(group for group in groups if stemmed in group))
    return near - {stemmed}


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "ews")):
        return word[:-1]
    return word


def _strip_suffix(word: str) -> str:
    for ending in ("ingly", "edly", "ing", "ed", "ly"):
        body = word.removesuffix(ending)
        if body != word and len(body) >= 3 and re.search("[aeiouy]", body):
            word = _undouble(body)
            break
    word = word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word
    return word.removesuffix("e") if len(word) > 3 else word


def _undouble(body: str) -> str:
    return re.sub(r"(?<=..)([^lsz])\1$", r"\1", body)
