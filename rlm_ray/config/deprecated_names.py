"""Public names of before and what they are called now; `warn_deprecated` is the one warning about them.

Python arguments and attributes of an old name warn. Records, run folders, TOML files, variables and command lines are read
without a word: they may be older than the program.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from types import FrameType, MappingProxyType
from typing import Any, TypeVar

T = TypeVar("T")

RENAMED_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "leaf_chars": "max_leaf_chars",
        "direct_below_chars": "direct_call_below_chars",
        "attempts": "max_attempts",
        "timeout": "call_timeout_s",
        "cluster.idle_s": "cluster.idle_timeout_s",
        "tracing.leaves_per_map": "tracing.max_spans_per_map",
        "tracing.sessions_per_trace": "tracing.max_sessions_per_trace",
        "tracing.flush_s": "tracing.flush_timeout_s",
    }
)
"""Old and new dotted names."""
RENAMED_VALUES: Mapping[tuple[str, str], str] = MappingProxyType({("on_journal_error", "go_on"): "continue"})
"""Old values by the name of their setting."""
SILENT_NAMES = frozenset({"timeout"})
"""litellm's own word for it stays a keyword of `RLM` without a warning."""
_TRANSPARENT_MODULES = frozenset({"rlm_ray", "dataclasses"})
"""Their frames are not the caller whom a warning is for."""


def current_name(name: str) -> str:
    """Return the name that a setting has now, dotted as it is given."""
    return RENAMED_SETTINGS.get(name, name)


def current_value(name: str, value: Any) -> Any:
    """Return the value as it is spelt now, of a setting under its current name."""
    return RENAMED_VALUES.get((name, value), value) if isinstance(value, str) else value


def current_table(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a table of settings, however nested, under their current names. Where both names are given, the new one holds."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = current_name(prefix + key)
        if name != prefix + key and name.removeprefix(prefix) in table:
            continue
        is_group = isinstance(value, Mapping) and not prefix
        found[name.removeprefix(prefix)] = (
            current_table(value, f"{key}.") if is_group else current_value(name, value)
        )
    return found


def warn_about_settings(names: Mapping[str, Any], prefix: str = "") -> None:
    """Warn of each name, and each value, that is an old one."""
    for key, value in names.items():
        name = current_name(prefix + key)
        if name != prefix + key and key not in SILENT_NAMES:
            warn_deprecated(prefix + key, name)
        elif isinstance(value, str) and (name, value) in RENAMED_VALUES:
            warn_deprecated(f"{name}={value!r}", f"{name}={RENAMED_VALUES[name, value]!r}")


def warn_deprecated(old: str, new: str) -> None:
    """Warn whoever called this package that `old` is called `new` now."""
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=_caller_level())


def accept_old_names(prefix: str = "") -> Callable[[type[T]], type[T]]:
    """Let a dataclass of settings be made and read by the old names of its fields, with a warning."""
    renamed = {
        old.removeprefix(prefix): new.removeprefix(prefix)
        for old, new in RENAMED_SETTINGS.items()
        if old.startswith(prefix) and "." not in old.removeprefix(prefix)
    }

    def decorate(cls: type[T]) -> type[T]:
        construct = cls.__init__

        @wraps(construct)
        def __init__(self: T, *args: Any, **fields: Any) -> None:  # noqa: N807 - it takes the place of that method
            warn_about_settings(fields, prefix)
            changed = {renamed[name]: value for name, value in fields.items() if name in renamed}
            kept = {name: value for name, value in fields.items() if name not in renamed}
            # The old name wins: `dataclasses.replace` gives the new one of every field besides what is changed.
            given = {name: current_value(prefix + name, value) for name, value in {**kept, **changed}.items()}
            construct(self, *args, **given)

        cls.__init__ = __init__  # type: ignore[assignment]
        for old, new in renamed.items():
            setattr(cls, old, _deprecated_property(prefix, old, new))
        return cls

    return decorate


def _deprecated_property(prefix: str, old: str, new: str) -> property:
    def read(self: Any) -> Any:
        if old not in SILENT_NAMES:
            warn_deprecated(prefix + old, prefix + new)
        return getattr(self, new)

    return property(read)


def _caller_level() -> int:
    """Return the `stacklevel` of the first frame outside this package, as seen from who calls `warnings.warn`."""
    frame: FrameType | None = inspect.currentframe()
    level = 0
    while frame is not None and _package(frame) in _TRANSPARENT_MODULES:
        frame, level = frame.f_back, level + 1
    return level


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
