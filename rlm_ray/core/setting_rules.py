"""What stands beside a setting: which values it takes, and what depends on it.

    max_depth: Annotated[int, Whole(0, 100), SHAPES_ANSWER] = 1

`check_fields` holds all values of a dataclass to their rules. A field whose type says `None` takes that, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import NoneType
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from rlm_ray.errors import ConfigError


class Rule(Protocol):
    """Says which values a setting takes."""

    def fault(self, value: object) -> str:
        """Say what the value must be; empty where it is that."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number; both ends are included."""

    least: int
    most: int

    def fault(self, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most:
            return ""
        return f"must be a whole number from {self.least:,} to {self.most:,}"


@dataclass(frozen=True, slots=True)
class Number:
    """A number; both ends are included, or only the upper one."""

    least: float
    most: float
    unit: str = ""
    above: bool = False
    """The value must be more than `least`."""

    def fault(self, value: object) -> str:
        # NaN fails the comparison, infinity and huge integers the upper bound.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and self.least <= value <= self.most and not (self.above and value == self.least):  # type: ignore[operator]
            return ""
        kind = f"a number of {self.unit}" if self.unit else "a number"
        least, most = f"{self.least:,.16g}", f"{self.most:,.16g}"
        return f"must be {kind} " + (
            f"above {least}, at most {most}" if self.above else f"from {least} to {most}"
        )


class OneOf:
    """One of some words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def fault(self, value: object) -> str:
        return "" if value in self.words else f"must be {', '.join(self.words[:-1])} or {self.words[-1]}"


@dataclass(frozen=True, slots=True)
class OfType:
    """A value of a type, which users know by a word for it."""

    type: type
    word: str

    def fault(self, value: object) -> str:
        return "" if isinstance(value, self.type) else f"must be {self.word}"


FLAG = OfType(bool, "true or false")
TEXT = OfType(str, "a text")


class Mark(Enum):
    """What depends on a setting."""

    SHAPES_ANSWER = "an answer depends on it; all other settings say how it is come by"
    NEEDS_TRUST = (
        "it says where questions, keys or files go, or what holds code back: only the user's own word sets it"
    )


SHAPES_ANSWER, NEEDS_TRUST = Mark


def check_fields(settings: object, prefix: str = "") -> None:
    """Raise `ConfigError` for the first field whose value breaks its rule."""
    cls: Any = type(settings)  # a key of the cache, for mypy
    for name, rule, is_optional in _rules(cls):
        value = getattr(settings, name)
        if not (is_optional and value is None) and (why := rule.fault(value)):
            raise ConfigError(prefix + name, f"{why}{', or None' if is_optional else ''}; got {value!r}")


def marked_fields(cls: type, mark: Mark) -> dict[str, Any]:
    """Return the fields that bear a mark, and their types."""
    return {name: hint for name, hint, beside in _annotated(cls) if mark in beside}


@cache
def _rules(cls: type[Any]) -> tuple[tuple[str, Rule, bool], ...]:
    return tuple(
        (name, rule, NoneType in get_args(hint))
        for name, hint, beside in _annotated(cls)
        for rule in beside
        if not isinstance(rule, Mark)
    )


def _annotated(cls: type) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Yield name, type and what stands beside the type, of each field where something does."""
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated:
            inner, *beside = get_args(hint)
            yield name, inner, tuple(beside)
