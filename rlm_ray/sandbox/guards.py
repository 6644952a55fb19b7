"""What the language's guards do at run time, and the builtins that take names as strings."""

from __future__ import annotations

import _string  # type: ignore[import-not-found]
import decimal
import string
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from csv import DictReader
from typing import Any

from rlm_ray.sandbox import words

_missing = object()

_WRITABLE = (types.SimpleNamespace, decimal.Context, textwrap.TextWrapper, DictReader, BaseException)
"""Classes of others whose instances are made to be written to."""


def write(value: Any) -> Any:
    """The object itself, if code may set its attributes: instances, classes and functions of its own."""
    if type(value).__module__ == "__main__":
        return value
    if isinstance(value, (type, types.FunctionType)):
        if value.__module__ == "__main__":
            return value
    elif isinstance(value, _WRITABLE):
        return value
    raise AttributeError(f"attributes of {_kind(value)} objects cannot be changed here")


def getattr_(value: Any, name: str) -> Any:
    """The attributes in `words.SPECIAL`."""
    match name:
        case "format" | "format_map" if _is_text(value):
            return _safe_format(value, name)
        case "__class__":
            return type_of(value)
        case "__dict__":
            return vars_(value)
        case "__setattr__" | "__delattr__":
            return _safe_write(value, name)
        case _:
            return getattr(value, name)


def safe_getattr(value: Any, name: str, default: Any = _missing) -> Any:
    """`getattr` of a name that code may say."""
    _check(name)
    try:
        return getattr_(value, name) if name in words.SPECIAL else getattr(value, name)
    except AttributeError:
        if default is _missing:
            raise
        return default


def safe_hasattr(value: Any, name: str) -> bool:
    try:
        safe_getattr(value, name)
    except AttributeError:
        return False
    return True


def safe_setattr(value: Any, name: str, new: Any) -> None:
    _check(name, written=True)
    setattr(write(value), name, new)


def safe_delattr(value: Any, name: str) -> None:
    _check(name, written=True)
    delattr(write(value), name)


def vars_(*values: Any) -> dict[str, Any]:
    """The attributes of an object of the cell's own, as a copy."""
    if not values:
        raise NameError("vars() without an object is not available here: SHOW_VARS() lists your variables")
    value = values[0]
    if type(value).__module__ != "__main__" and not isinstance(value, types.SimpleNamespace):
        raise TypeError(f"vars() of {_kind(value)} objects is not available here")
    return dict(value.__dict__)


def dir_(*values: Any) -> list[str]:
    if not values:
        raise NameError("dir() without an object is not available here: SHOW_VARS() lists your variables")
    value = values[0]
    return [name for name in dir(value) if not words.refuses_attribute(name)]


class _TypeOfTypes(type):
    """Makes `Type` answer as `type` does, to one argument."""

    def __call__(cls, *arguments: Any) -> Any:
        if len(arguments) != 1:
            raise TypeError("type() takes one argument here: write a class statement to make a class")
        return type_of(arguments[0])

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, type)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, type) or other is cls

    def __or__(cls, other: Any) -> Any:
        return type | other

    def __repr__(cls) -> str:
        return "<class 'type'>"


class Type(metaclass=_TypeOfTypes):
    """`type` for cells: tells the class of a value, makes none."""

    def __init_subclass__(cls) -> None:
        raise TypeError("metaclasses are not available here")


Type.__name__ = Type.__qualname__ = "type"


def type_of(value: Any) -> Any:
    kind = type(value)
    return Type if issubclass(kind, type) else kind


# Format strings read attributes by name


def _is_text(value: Any) -> bool:
    if isinstance(value, super):
        value = _bound_to(value)
    return isinstance(value, str) or (isinstance(value, type) and issubclass(value, str))


def _bound_to(value: Any) -> Any:
    """The object behind `super()`, or the value itself."""
    return value.__self__ if isinstance(value, super) else value  # type: ignore[attr-defined]


def _safe_format(value: Any, name: str) -> Callable[..., str]:
    if isinstance(value, type):
        return lambda template, *args, **kwargs: _safe_format(template, name)(*args, **kwargs)
    template = str.__str__(_bound_to(value))
    _check_template(template)
    return getattr(template, name)  # type: ignore[no-any-return]


def _check_template(template: str, depth: int = 3) -> None:
    try:
        pieces = list(_string.formatter_parser(template))
    except ValueError:
        return  # the format call itself says what is wrong with it
    for _, field, spec, _ in pieces:
        for is_attribute, key in _string.formatter_field_name_split(field)[1] if field else ():
            if is_attribute:
                _check(key)
        if spec and depth:
            _check_template(spec, depth - 1)


class Formatter(string.Formatter):
    """`string.Formatter` that reads attributes as code does."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first, rest = _string.formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            value = safe_getattr(value, key) if is_attribute else value[key]
        return value, first


# operator's two functions that read attributes by name


def attrgetter(*names: str) -> Callable[[Any], Any]:
    paths = [_path(name) for name in names]
    if not paths:
        raise TypeError("attrgetter expected at least 1 argument, got 0")
    if len(paths) == 1:
        return lambda value: _walk(value, paths[0])
    return lambda value: tuple(_walk(value, path) for path in paths)


def methodcaller(name: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    _check(name)
    return lambda value: safe_getattr(value, name)(*args, **kwargs)


def _path(dotted: str) -> list[str]:
    if type(dotted) is not str:
        raise TypeError("attribute name must be a string")
    return dotted.split(".")


def _walk(value: Any, path: list[str]) -> Any:
    for name in path:
        value = safe_getattr(value, name)
    return value


# Writing by name through the class or through super()


def _safe_write(value: Any, name: str) -> Callable[..., None]:
    native = getattr(value, name)
    if isinstance(value, type):

        def unbound(target: Any, attribute: str, *new: Any) -> None:
            _check(attribute, written=True)
            native(write(target), attribute, *new)

        return unbound

    def bound(attribute: str, *new: Any) -> None:
        _check(attribute, written=True)
        write(_bound_to(value))
        native(attribute, *new)

    return bound


def _check(name: Any, *, written: bool = False) -> None:
    """Exactly a str: a subclass could answer one thing to this check and another to Python."""
    if type(name) is not str:
        raise TypeError("attribute name must be a string")
    if words.refuses_attribute(name, written=written):
        raise AttributeError(f"the attribute {name!r} is not available here")


def _kind(value: object) -> str:
    return str(type.__dict__["__name__"].__get__(type(value)))


def wraps(wrapped: Any) -> Callable[[Any], Any]:
    """`functools.wraps` that copies the name and the docstring, and nothing by name."""

    def decorate(wrapper: Any) -> Any:
        for name in ("__name__", "__qualname__", "__doc__"):
            if isinstance(wrapper, types.FunctionType) and hasattr(wrapped, name):
                setattr(wrapper, name, getattr(wrapped, name))
        return wrapper

    return decorate
