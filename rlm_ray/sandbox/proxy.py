"""A stand-in for a module: a frozen bag of the names that code may use.

Never the module itself: public attributes of json, re, enum, typing and a dozen others lead to
`sys`, `os` or `builtins`, and `__all__` is no list of safe names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn


class Module:
    """Attributes as given, none to be changed."""

    def __init__(self, name: str, names: Mapping[str, Any]) -> None:
        self.__dict__.update(names)
        self.__dict__["__name__"] = name

    def __repr__(self) -> str:
        return f"<module {self.__dict__['__name__']!r}>"

    def __dir__(self) -> list[str]:
        return sorted(self.__dict__)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"module {self.__dict__['__name__']!r} has no attribute {name!r} here")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"module {self.__dict__['__name__']!r} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"module {self.__dict__['__name__']!r} cannot be changed")
