"""A stand-in for a module: a frozen bag of the names that code may use.

Never the module itself: public attributes of json, re, enum, typing and a dozen others lead to
`sys`, `os` or `builtins`, and `__all__` is no list of safe names.

Each is the one instance of a class of its own, which holds the names: looking one up costs what it costs in a module,
and there is no dict to write to, no constructor to call again.
"""

from __future__ import annotations

import collections
import collections.abc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn


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
    """Make a stand-in with these names."""
    held = {each: staticmethod(value) for each, value in names.items()}
    kind = type(name, (ModuleProxy,), {"__slots__": (), "__name__": name, **held})
    found: ModuleProxy = kind()
    return found


def names_of(proxy: ModuleProxy) -> dict[str, Any]:
    """Return what a stand-in offers."""
    return {
        name: value.__func__ for name, value in vars(type(proxy)).items() if isinstance(value, staticmethod)
    }


_ALIASES: dict[str, Any] = {
    "List": list, "Dict": dict, "Set": set, "FrozenSet": frozenset, "Tuple": tuple, "Type": object,
    "DefaultDict": collections.defaultdict, "OrderedDict": collections.OrderedDict,
    "Counter": collections.Counter, "Deque": collections.deque, "ChainMap": collections.ChainMap,
    "Text": str, "TypedDict": dict,
    "Iterable": collections.abc.Iterable, "Iterator": collections.abc.Iterator,
    "Sequence": collections.abc.Sequence, "Mapping": collections.abc.Mapping,
    "MutableMapping": collections.abc.MutableMapping, "Collection": collections.abc.Collection,
    "Generator": collections.abc.Generator, "Hashable": collections.abc.Hashable,
    "Callable": collections.abc.Callable,
}  # fmt: skip
_MARKERS = (
    "Any Optional Union Literal Final ClassVar Annotated Generic Protocol NoReturn Never Self TypeAlias TypeGuard "
    "Concatenate Required NotRequired AnyStr SupportsInt SupportsFloat SupportsIndex LiteralString"
)


class TypingStub:
    """Can be subscripted, joined with `|`, and inherited from."""

    def __init__(self, name: str, base: type | None = None) -> None:
        self._name = name
        self._base = base

    def __getitem__(self, _: object) -> TypingStub:
        return self

    def __or__(self, _: object) -> TypingStub:
        return self

    __ror__ = __or__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._base is None:
            raise TypeError(f"typing.{self._name} is only a hint")
        return self._base(*args, **kwargs)

    def __mro_entries__(self, _: object) -> tuple[type, ...]:
        return (self._base,) if self._base is not None else ()

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, self._base) if self._base is not None else True

    def __repr__(self) -> str:
        return f"typing.{self._name}"


def typing_namespace() -> dict[str, Any]:
    found: dict[str, Any] = {name: TypingStub(name, base) for name, base in _ALIASES.items()}
    found |= {name: TypingStub(name) for name in _MARKERS.split()}
    return found | {
        "NamedTuple": NamedTuple,
        "TypeVar": _named,
        "ParamSpec": _named,
        "NewType": _new_type,
        "TYPE_CHECKING": False,
        "cast": _cast,
        "overload": _identity,
        "final": _identity,
        "override": _identity,
        "runtime_checkable": _identity,
        "no_type_check": _identity,
    }


def _named(name: str, *_: Any, **__: Any) -> TypingStub:
    return TypingStub(str(name))


def _new_type(name: str, base: Any) -> Callable[[Any], Any]:
    del name, base
    return _identity


def _cast(_: Any, value: Any) -> Any:
    return value


def _identity(value: Any) -> Any:
    return value
