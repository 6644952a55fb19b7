"""What the language's guards do at run time, and the builtins that take names as strings."""

from __future__ import annotations

import _string  # type: ignore[import-not-found]
import abc
import collections
import dataclasses
import decimal
import enum
import functools
import string
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from csv import DictReader
from itertools import chain
from typing import Any

from rlm_ray.sandbox.language import name_rules

_missing = object()

_WRITABLE = (types.SimpleNamespace, decimal.Context, textwrap.TextWrapper, DictReader, BaseException)
"""Classes of others whose instances are made to be written to."""


def is_own(kind: type) -> bool:
    """Tell whether it is a class that the cell's code made."""
    return kind.__module__ == "__main__"


def guard_write(value: Any) -> Any:
    """Return the object itself, if code may set its attributes: instances, classes and functions of its own."""
    if is_own(type(value)):
        return value
    if isinstance(value, (type, types.FunctionType)):
        if value.__module__ == "__main__":
            return value
    elif isinstance(value, _WRITABLE):
        return value
    raise AttributeError(f"attributes of {_type_name(value)} objects cannot be changed here")


def guard_getattr(value: Any, name: str) -> Any:  # noqa: PLR0911 - one line for each name
    """Return the attributes in `name_rules.RUNTIME_CHECKED`."""
    match name:
        case "format" | "format_map" if _is_text(value):
            return _safe_format(value, name)
        case "__class__":
            return type_of(value)
        case "__dict__":
            if (found := _own_attributes(value)) is None:
                raise AttributeError(
                    f"the attribute '__dict__' of {_type_name(value)} objects is not available here"
                )
            return found
        case "__setattr__" | "__delattr__":
            return _safe_write(value, name)
        case "__set__" | "__set_name__":
            return _safe_set(value, name)
        case "register" if isinstance(value, type):
            return _safe_register(value)
        case _:
            return getattr(value, name)


def safe_getattr(value: Any, name: str, default: Any = _missing) -> Any:
    """Do `getattr` of a name that code may say."""
    _check(name)
    try:
        return guard_getattr(value, name) if name in name_rules.RUNTIME_CHECKED else getattr(value, name)
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
    setattr(guard_write(value), name, new)


def safe_delattr(value: Any, name: str) -> None:
    _check(name, written=True)
    delattr(guard_write(value), name)


def safe_vars(*values: Any) -> dict[str, Any]:
    """Return the attributes of an object of the cell's own, as a copy."""
    if not values:
        raise NameError("vars() without an object is not available here: SHOW_VARS() lists your variables")
    if (found := _own_attributes(values[0])) is None:
        raise TypeError(f"vars() of {_type_name(values[0])} objects is not available here")
    return found


def _own_attributes(value: Any) -> dict[str, Any] | None:
    is_readable = is_own(type(value)) or isinstance(value, types.SimpleNamespace)
    return dict(value.__dict__) if is_readable and hasattr(value, "__dict__") else None


def safe_dir(*values: Any) -> list[str]:
    if not values:
        raise NameError("dir() without an object is not available here: SHOW_VARS() lists your variables")
    value = values[0]
    return [name for name in dir(value) if not name_rules.is_forbidden_attribute(name)]


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


class SafeType(metaclass=_TypeOfTypes):
    """`type` for cells: tells the class of a value, makes none."""

    def __init_subclass__(cls) -> None:
        raise TypeError("metaclasses are not available here")


SafeType.__name__ = SafeType.__qualname__ = "type"


def type_of(value: Any) -> Any:
    kind = type(value)
    if issubclass(kind, super):
        return super_
    return SafeType if issubclass(kind, type) else kind


def super_(*arguments: Any) -> Any:
    """Return `super` with arguments: the bases of the cell's own classes."""
    if not arguments or not isinstance(arguments[0], type) or not is_own(arguments[0]):
        raise TypeError("super(C, x) takes a class of your own here; in a method write super()")
    return super(*arguments)


# Format strings read attributes by name


def _is_text(value: Any) -> bool:
    texts = (str, collections.UserString)
    value = _bound_to(value)
    return isinstance(value, texts) or (isinstance(value, type) and issubclass(value, texts))


def _bound_to(value: Any) -> Any:
    """Return the object behind `super()`, or the value itself."""
    return value.__self__ if isinstance(value, super) else value  # type: ignore[attr-defined]


def _safe_format(value: Any, name: str) -> Callable[..., str]:
    if isinstance(value, type):
        return lambda template, *args, **kwargs: _safe_format(template, name)(*args, **kwargs)
    bound = _bound_to(value)
    template = str.__str__(bound.data if isinstance(bound, collections.UserString) else bound)
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


_formatter = string.Formatter()


class Formatter:
    """`string.Formatter` that reads attributes as code does, and has no base that does otherwise."""

    __slots__ = ()

    def format(self, template: str, /, *args: Any, **kwargs: Any) -> str:
        return self.vformat(template, args, kwargs)

    def vformat(self, template: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        return _FormatterOf(self).vformat(template, args, kwargs)

    def parse(self, template: str) -> Any:
        return _formatter.parse(template)

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first, rest = _string.formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            value = safe_getattr(value, key) if is_attribute else value[key]
        return value, first

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return _formatter.get_value(key, args, kwargs)

    def check_unused_args(self, *_: Any) -> None:
        """Check nothing: `string.Formatter` calls it for those who care."""

    def format_field(self, value: Any, spec: str) -> Any:
        return _formatter.format_field(value, spec)

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return _formatter.convert_field(value, conversion)


class _FormatterOf(string.Formatter):
    """Asks a `Formatter`, which a cell may have written, for every part."""

    def __init__(self, owner: Formatter) -> None:
        for name in ("parse", "get_field", "check_unused_args", "format_field", "convert_field"):
            setattr(self, name, getattr(owner, name))


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
            native(guard_write(target), attribute, *new)

        return unbound

    def bound(attribute: str, *new: Any) -> None:
        _check(attribute, written=True)
        guard_write(_bound_to(value))
        native(attribute, *new)

    return bound


def _safe_set(value: Any, name: str) -> Callable[..., None]:
    """Return `__set__` and `__set_name__` of descriptors that are not the cell's own."""
    native: Callable[..., None] = getattr(value, name)
    if is_own(value if isinstance(value, type) else type(value)):
        return native
    if name == "__set_name__":
        raise AttributeError(f"the attribute {name!r} of {_type_name(value)} objects is not available here")

    def checked(*arguments: Any) -> None:
        target = arguments[1 if isinstance(value, type) else 0]
        native(*arguments[: len(arguments) - 2], guard_write(target), arguments[-1])

    return checked


def _safe_register(kind: type) -> Any:
    """Do `ABC.register`: no class of others counts as one of the cell's, whose patterns read what it has."""
    native: Any = kind.register  # type: ignore[attr-defined]
    if getattr(native, "__func__", None) is not abc.ABCMeta.register:
        return native

    def register(other: Any) -> Any:
        if isinstance(other, type) and not is_own(other):
            raise TypeError("register() takes a class of your own here")
        return native(other)

    return register


def _check(name: Any, *, written: bool = False) -> None:
    """Take exactly a str: a subclass could answer one thing to this check and another to Python."""
    if type(name) is not str:
        raise TypeError("attribute name must be a string")
    if name_rules.is_forbidden_attribute(name, written=written):
        raise AttributeError(f"the attribute {name!r} is not available here")


def _type_name(value: object) -> str:
    return str(type.__dict__["__name__"].__get__(type(value)))


def wraps(wrapped: Any) -> Callable[[Any], Any]:
    """Wrap as `functools.wraps` does, but copy the name and the docstring, and nothing by name."""

    def decorate(wrapper: Any) -> Any:
        for name in ("__name__", "__qualname__", "__doc__"):
            if isinstance(wrapper, types.FunctionType) and hasattr(wrapped, name):
                setattr(wrapper, name, getattr(wrapped, name))
        return wrapper

    return decorate


# What the standard library does to classes and instances by name


class cached_property:  # noqa: N801 - as it is called in functools
    """`functools.cached_property` for instances of the cell's own classes."""

    __slots__ = ("attrname", "func")

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self.func = func
        self.attrname: str | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        if self.attrname not in {None, name}:
            raise TypeError(f"the same cached_property has two names, {self.attrname!r} and {name!r}")
        self.attrname = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self.attrname is None:
            raise TypeError("a cached_property must be assigned in a class statement")
        kept: dict[str, Any] = object.__getattribute__(guard_write(instance), "__dict__")
        if self.attrname not in kept:
            kept[self.attrname] = self.func(instance)
        return kept[self.attrname]


cached_property.__module__ = "functools"


def dataclass(kind: Any = None, /, **options: Any) -> Any:
    """Make a dataclass of the cell's own classes."""
    if kind is None:
        return lambda kind: dataclass(kind, **options)
    if not (isinstance(kind, type) and is_own(kind)):
        raise TypeError("dataclass() takes a class of your own here")
    return _without_bad_patterns(dataclasses.dataclass(kind, **options))


def total_ordering(kind: Any) -> Any:
    """Do `functools.total_ordering` of the cell's own classes."""
    if not (isinstance(kind, type) and is_own(kind)):
        raise TypeError("total_ordering() takes a class of your own here")
    return functools.total_ordering(kind)


def namedtuple(typename: str, field_names: Any, **options: Any) -> Any:
    """Make a `collections.namedtuple`, with no field that patterns may not read."""
    return _without_bad_patterns(_namedtuple(typename, field_names, **{"module": "__main__"} | options))


def _without_bad_patterns(kind: Any) -> Any:
    if any(map(name_rules.refuses_pattern, kind.__dict__.get("__match_args__", ()))):
        setattr(kind, "__match_args__", ())  # noqa: B010 - of any class
    return kind


def _called_enum(kind: Any, *arguments: Any, **options: Any) -> Any:
    """Do `Color(value)`, or make a new enum: its members are attributes, so their names are checked."""
    names = arguments[1] if len(arguments) > 1 else options.get("names")
    if names is None or kind._member_map_:
        return _call_enum(kind, *arguments, **options)
    if isinstance(names, str):
        members: list[Any] = str.__str__(names).replace(",", " ").split()
    else:
        members = [tuple(name) if isinstance(name, (list, tuple)) else name for name in _members(names)]
    for name in chain.from_iterable(each[:1] if isinstance(each, tuple) else (each,) for each in members):
        _check_member(name)
    options.pop("names", None)
    return _call_enum(kind, arguments[0], members, *arguments[2:], **options)


def _members(names: Any) -> list[Any]:
    return list(names.items()) if isinstance(names, Mapping) else list(names)


def _check_member(name: Any) -> None:
    if type(name) is not str:
        raise TypeError("the name of a member must be a string")
    if name.startswith("_") and name.endswith("_"):
        raise ValueError(
            f"the name {name!r} is not available here; choose one without underscores at both ends"
        )


_namedtuple: Any = vars(collections)["namedtuple"]
_call_enum = enum.EnumType.__call__


def install() -> None:
    """Put what makes classes from strings under guard, in this process: the standard library's own code uses it, too."""
    vars(collections)["namedtuple"] = namedtuple
    enum.EnumType.__call__ = _called_enum  # type: ignore[assignment,method-assign]
