"""A stand-in for a module: a frozen bag of the names that code may use.

Never the module itself: public attributes of json, re, enum, typing and a dozen others lead to
`sys`, `os` or `builtins`, and `__all__` is no list of safe names.

Each is the one instance of a class of its own, which holds the names: looking one up costs what it costs in a module,
and there is no dict to write to, no constructor to call again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn


class ModuleProxy:
    """Attributes as given, none to be changed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<module {type(self).__name__!r}>"

    def __dir__(self) -> list[str]:
        return sorted(names_of(self))

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"module {type(self).__name__!r} has no attribute {name!r} here")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"module {type(self).__name__!r} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"module {type(self).__name__!r} cannot be changed")


def module(name: str, names: Mapping[str, Any]) -> ModuleProxy:
    """A stand-in with these names."""
    held = {each: staticmethod(value) for each, value in names.items()}
    kind = type(name, (ModuleProxy,), {"__slots__": (), "__name__": name, **held})
    found: ModuleProxy = kind()
    return found


def names_of(proxy: ModuleProxy) -> dict[str, Any]:
    """What a stand-in offers."""
    return {
        name: value.__func__ for name, value in vars(type(proxy)).items() if isinstance(value, staticmethod)
    }
