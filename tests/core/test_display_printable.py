"""What a terminal or a file may be sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.display import printable, replace_surrogates


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"), ("a\tb\nc", "a\tb\nc"), ("a\r\nb", "a\nb"), ("a\rb", "a\\u000db"), ("\x1b[31m", "\\u001b[31m"), ("ä\x9b", "ä\\u009b"),
        ("\x7f", "\\u007f"), ("\u202eabc", "\\u202eabc"), ("\ud800", "\\ud800"), ("naïve 漢字 😀", "naïve 漢字 😀"), ("\u2028", "\\u2028"), ("", ""),
    ],
)  # fmt: skip
def test_what_a_terminal_obeys_is_shown(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_any_text_becomes_harmless_and_stays_so(text):
    shown = printable(text)
    assert printable(shown) == shown
    assert "\x1b" not in shown
    shown.encode()


@given(
    st.recursive(
        st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_values_without_surrogates_are_what_they_were(value):
    assert replace_surrogates(value) == value


def test_halves_of_pairs_are_replaced_however_deep():
    assert replace_surrogates([{"a\ud800": ["\udc00", 1, None]}, ("\ud800",)]) == [
        {"a?": ["?", 1, None]},
        ("\ud800",),
    ]
