"""`copy` and `deepcopy` of a cell: containers and instances of the cell's own classes are copied, all else is itself.

The standard library's ask an object how it wants to be rebuilt, and then call, write and set what it says; and they
walk through bound methods into whatever these belong to. Here nothing is asked but `__copy__` and `__deepcopy__` of
the cell's own classes.
"""

from __future__ import annotations

import collections
import copy
import types
from collections.abc import Callable
from typing import Any

from rlm_ray.sandbox.language.guards import is_own

_IMMUTABLE = (int, float, complex, str, bytes)


def copy_(value: Any) -> Any:
    """Copy, as `copy.copy` does."""
    special = _special(value, "__copy__")
    if special is not None:
        return special(value)
    if type(value) is frozenset:
        return value
    new = _copied(value, lambda part: part, lambda _: None)
    if new is not value:
        match new:
            case collections.UserDict() | collections.UserList():
                new.data = copy_(new.data)
            case collections.ChainMap():
                new.maps = [copy_(new.maps[0]), *new.maps[1:]]
            case _:
                pass
    return new


def deepcopy_(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """Copy, as `copy.deepcopy` does."""
    memo = {} if memo is None else memo
    known = memo.get(id(value), memo)
    if known is not memo:
        return known
    special = _special(value, "__deepcopy__")
    if special is not None:
        new = special(value, memo)
    else:
        new = _copied(value, lambda part: deepcopy_(part, memo), lambda new: memo.__setitem__(id(value), new))
    if new is not value:
        memo[id(value)] = new
        memo.setdefault(id(memo), []).append(value)  # what is alive keeps its id
    return new


def install() -> None:
    """Put these in the place of the standard library's, whose modules copy what cells hand them."""
    vars(copy).update(copy=copy_, deepcopy=deepcopy_)


def _special(value: Any, name: str) -> Callable[..., Any] | None:
    kind = type(value)
    for owner in kind.__mro__:
        if name in owner.__dict__:
            return getattr(kind, name) if is_own(owner) else None
    return None


def _copied(value: Any, part: Callable[[Any], Any], begun: Callable[[Any], None]) -> Any:
    new = _empty(value, part)
    if new is value:
        return value
    begun(new)
    _fill(value, new, part)
    return new


def _empty(value: Any, part: Callable[[Any], Any]) -> Any:  # noqa: PLR0911, C901 - one line for each kind
    """Return a new object of this kind without its items, or the value itself where it is not copied."""
    kind: Any = type(value)
    match value:
        case type() | types.FunctionType() | types.BuiltinFunctionType() | types.MethodType():
            return value
        case collections.defaultdict():
            new = kind.__new__(kind)
            collections.defaultdict.__init__(new, value.default_factory)
            return new
        case collections.deque():
            new = kind.__new__(kind)
            collections.deque.__init__(new, (), value.maxlen)
            return new
        case list() | dict() | set() | bytearray():
            return kind.__new__(kind)
        case tuple():
            parts = [part(item) for item in tuple.__iter__(value)]
            same = all(a is b for a, b in zip(parts, tuple.__iter__(value), strict=True))
            return value if same and not is_own(kind) else tuple.__new__(kind, parts)
        case frozenset():
            return frozenset.__new__(kind, map(part, frozenset.__iter__(value)))
        case BaseException() if is_own(kind):
            return kind.__new__(kind, *(part(item) for item in value.args))
        case _ if isinstance(value, _IMMUTABLE):
            return value
        case types.SimpleNamespace() | collections.UserDict() | collections.UserList():
            return kind.__new__(kind)
        case collections.ChainMap():
            return kind.__new__(kind)
        case _ if is_own(kind) and kind.__new__ is object.__new__:
            return object.__new__(kind)
        case _:
            return value


def _fill(value: Any, new: Any, part: Callable[[Any], Any]) -> None:  # noqa: C901 - one line for each kind
    match value:
        case list():
            list.extend(new, [part(item) for item in list.__iter__(value)])
        case collections.OrderedDict():
            for key, item in collections.OrderedDict.items(value):
                collections.OrderedDict.__setitem__(new, part(key), part(item))
        case dict():
            for key, item in dict.items(value):
                dict.__setitem__(new, part(key), part(item))
        case set():
            set.update(new, [part(item) for item in set.__iter__(value)])
        case bytearray():
            bytearray.extend(new, value)
        case collections.deque():
            collections.deque.extend(new, [part(item) for item in collections.deque.__iter__(value)])
        case _:
            pass
    attributes = _attributes(value)
    if attributes:
        _attributes(new).update((name, part(item)) for name, item in attributes.items())
    for name in _slots(type(value)):
        try:
            item = object.__getattribute__(value, name)
        except AttributeError:
            continue
        object.__setattr__(new, name, part(item))


def _attributes(value: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found


def _slots(kind: type) -> list[str]:
    """Names of the slots of the cell's own classes, as they are stored."""
    found: list[str] = []
    for owner in kind.__mro__:
        names = owner.__dict__.get("__slots__", ()) if is_own(owner) else ()
        for name in (names,) if isinstance(names, str) else names:
            hidden = name.startswith("__") and not name.endswith("__")
            found.append(f"_{owner.__name__.lstrip('_')}{name}" if hidden else name)
    return [name for name in found if name not in {"__dict__", "__weakref__"}]
