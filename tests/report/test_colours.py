"""Colours of the page have the contrast that WCAG 2.2 AA asks for, in every theme."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = files("rlm_ray.report").joinpath("static", "page.css").read_text(encoding="utf-8")
_ROOT = re.compile(r":root([^{]*)\{([^}]*)\}")
LIGHT, DARK, AUTO, PRINT = (dict(re.findall(r"--([\w-]+): (#\w+)", body)) for _, body in _ROOT.findall(CSS))
THEMES = {"light": LIGHT, "dark": DARK, "dark by the system": AUTO, "print": LIGHT | PRINT}
GROUNDS = ("bg", "panel", "hover")
FILLS = ("d0", "d1", "d2", "d3", "d4", "d5", "error-fill", "warn-fill")
TEXT, GRAPHIC = 4.5, 3.0
"""Success criteria 1.4.3 and 1.4.11."""
PAIRS = [
    *((ink, ground, TEXT) for ink in ("ink", "dim", "select", "error", "warn", "new") for ground in GROUNDS),
    *(("on-fill", fill, TEXT) for fill in FILLS),
    *((fill, ground, GRAPHIC) for fill in FILLS for ground in GROUNDS),
    *((mark, ground, GRAPHIC) for mark in ("queue", "rate", "code", "code-wait") for ground in GROUNDS),
]


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("one", "other", "ratio"), [("#000", "#ffffff", 21), ("#777777", "#fff", 4.48), ("#123456", "#123456", 1)]
)
def test_contrast_is_what_wcag_says_it_is(one, other, ratio):
    assert contrast(one, other) == pytest.approx(ratio, abs=0.005)
    assert contrast(other, one) == contrast(one, other)


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_marks_stand_out_from_what_is_behind_them(theme):
    colours = THEMES[theme]
    poor = [
        (front, behind, round(found, 2))
        for front, behind, least in PAIRS
        if (found := contrast(colours[front], colours[behind])) < least
    ]
    assert poor == []


def test_every_theme_names_the_same_colours_and_the_dark_ones_are_one():
    assert LIGHT.keys() == DARK.keys()
    assert DARK == AUTO


def test_no_rule_has_a_colour_of_its_own_or_makes_text_pale():
    rules = _ROOT.sub("", CSS)
    assert re.findall(r"#[0-9a-f]{3,8}(?=[;, )])", rules) == []
    assert "opacity" not in rules
