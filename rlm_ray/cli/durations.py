"""An age as people write it: `30d`, `12h`, `90m`."""

from __future__ import annotations

import re

from rlm_ray.errors import InputError

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
MAX_DIGITS = 9


def seconds_of(age: str, option: str) -> float:
    """The seconds of an age. Raises `InputError` in the name of the option."""
    found = _AGE.fullmatch(age.strip().lower())
    if found is None or len(found[1]) > MAX_DIGITS:
        raise InputError(option, f"must be a number with s, m, h, d or w, such as 30d; got {age!r}")
    return float(found[1]) * _UNITS_S[found[2]]
