"""The builtins of a cell: all that are harmless, the guarded ones, and stubs with advice."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from rlm_ray.sandbox.language import guards, policy, unavailable
from rlm_ray.sandbox.language.modules import Modules

_NAMES = (
    "abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate filter float "
    "format frozenset hash hex id int isinstance issubclass iter len list map max min next object oct ord pow "
    "property range repr reversed round set slice sorted staticmethod str sum super tuple zip "
    "Ellipsis NotImplemented __build_class__"
)


def make_builtins(modules: Modules, print_: Callable[..., None]) -> dict[str, Any]:
    """A fresh `__builtins__` for one session."""
    return {
        **unavailable.unavailable_builtins(),
        **{name: getattr(builtins, name) for name in _NAMES.split()},
        **{name: value for name, value in vars(builtins).items() if _is_exception(value)},
        "__import__": modules.guarded_import,
        "__debug__": True,
        "True": True,
        "False": False,
        "None": None,
        "print": print_,
        "type": guards.SafeType,
        "getattr": guards.safe_getattr,
        "hasattr": guards.safe_hasattr,
        "setattr": guards.safe_setattr,
        "delattr": guards.safe_delattr,
        "vars": guards.safe_vars,
        "dir": guards.safe_dir,
        policy.GETATTR: guards.guard_getattr,
        policy.WRITE: guards.guard_write,
        policy.SUPER: guards.super_,
        **modules.preloaded(),
    }


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
