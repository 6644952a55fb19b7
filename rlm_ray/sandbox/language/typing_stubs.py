"""The names of `typing`, without its meaning: annotations are dropped, so hints only have to exist.

The real ones turn strings into objects that can evaluate them.
"""

from __future__ import annotations

import collections
import collections.abc
from collections.abc import Callable
from typing import Any, NamedTuple

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
