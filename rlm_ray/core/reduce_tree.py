"""Many answers put together in groups that fit a window, level by level, until one is left."""

from __future__ import annotations

from collections.abc import Sequence

LABEL_CHARS = 12
"""Around an answer: its number, and what stands between two."""
FEWEST = 2


def groups(lengths: Sequence[int], size: int) -> list[range]:
    """Neighbours together, up to `size` characters in all and never fewer than two, so that each level has less.

    An answer longer than half of `size` counts as half: it is to be cut.
    """
    found: list[range] = []
    room = 0
    for at, length in enumerate(lengths):
        wanted = min(length, size // FEWEST) + LABEL_CHARS
        if found and (wanted <= room or len(found[-1]) < FEWEST):
            found[-1] = range(found[-1].start, at + 1)
            room -= wanted
        else:
            found.append(range(at, at + 1))
            room = size - wanted
    return found


def planned_levels(answers: int, length: float, size: int) -> list[list[int]]:
    """The groups of each level, by how many answers they have, where all answers are about so long."""
    fan_in = max(FEWEST, int(size // (min(length, size // FEWEST) + LABEL_CHARS)))
    levels = []
    while answers > 1:
        full, rest = divmod(answers, fan_in)
        levels.append([fan_in] * full + [rest] * bool(rest))
        answers = len(levels[-1])
    return levels
