"""Which methods of a class other processes may call (`rpc_method` marks them, `service_of` finds them), and their messages as bytes.

The annotations of these methods are the messages of the service: its `Codec` knows the types in them and no others. A caller has a
stub that has the type of the class (`cluster/detached_actor.py`). Messages are MessagePack:

- Plain values: None, bool, int of any size, float, str (lone surrogates too), bytes, tuple, mapping. A list arrives as a
  tuple, any mapping as a dict.
- Types: frozen dataclasses, enums and `RLMError`s, found in the annotations of the types that the codec is made of. They
  travel as the values of their fields, in order. Decoding calls the constructor of a known type and never anything that
  the bytes name, so a peer can make no other object.

`fingerprint` names all types with their fields: two ends whose fingerprints differ would misread each other.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar, get_args, get_type_hints

import msgpack  # type: ignore[import-untyped]  # it comes with Ray, without types

from rlm_ray.errors import RLMError

_BIG_INT = 127
_MAX_TYPES = 127
_BUFFER_BYTES = 1024
"""Of a packer; its default of 256 KiB would cost more than most messages."""

MessageType: TypeAlias = type[Any]


class CodecError(ValueError):
    """A value cannot be sent, or bytes are no message of this codec."""


class Codec:
    """Encodes and decodes plain values, the given types, and all types in their annotations."""

    def __init__(self, *roots: MessageType) -> None:
        types = sorted(_message_types(roots), key=_name)
        if len(types) > _MAX_TYPES:
            raise ValueError(f"a codec has room for {_MAX_TYPES} types; got {len(types)}")
        self._types = types
        self._encoders = {cls: _encoder(cls, code) for code, cls in enumerate(types)}
        self._members = [list(cls) if issubclass(cls, Enum) else [] for cls in types]
        shape = [(_name(cls), _field_names(cls)) for cls in types]
        self.fingerprint = hashlib.sha256(repr(shape).encode()).digest()[:8]

    def knows(self, cls: type[Any]) -> bool:
        """Tell whether values of this message type can be sent."""
        return cls in self._encoders

    def encode(self, value: object) -> bytes:
        """Encode a message. Raises `CodecError`."""
        try:
            packed: bytes = msgpack.Packer(
                default=self._extended, unicode_errors="surrogatepass", buf_size=_BUFFER_BYTES
            ).pack(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CodecError(f"cannot be sent: {error}") from error
        return packed

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """Decode a message. Raises `CodecError`."""
        try:
            return msgpack.unpackb(
                data,
                ext_hook=self._value,
                list_hook=_array,
                use_list=False,
                strict_map_key=False,
                unicode_errors="surrogatepass",
            )
        except Exception as error:  # whatever constructors of messages raise about strange values
            raise CodecError(f"cannot be decoded: {_in_words(error)}") from error

    def _extended(self, value: object) -> Any:
        """Encode what MessagePack does not know by itself: a type is an array that begins with its number."""
        encoder = self._encoders.get(type(value))
        if encoder is not None:
            return encoder(value)
        if isinstance(value, int):
            return msgpack.ExtType(_BIG_INT, b"%x" % value)
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(f"{type(value).__name__} is no message type")

    def _value(self, code: int, data: bytes) -> Any:
        if code == _BIG_INT:
            return int(data, 16)
        if code >= len(self._types):
            raise ValueError(f"there is no message type {code}")
        return self._members[code][data[0]] if data else self._types[code]


def _array(values: tuple[Any, ...]) -> Any:
    """Return a tuple, or the message whose type stands first: no plain value is a type."""
    return values[0](*values[1:]) if values and isinstance(values[0], type) else values


def _message_types(roots: tuple[Any, ...]) -> set[MessageType]:
    """Find the message types among the roots and, at any depth, in their annotations."""
    found: set[MessageType] = set()
    unseen = list(roots)
    while unseen:
        seen = unseen.pop()
        unseen.extend(get_args(seen))
        if not isinstance(seen, type) or seen in found:
            continue
        if is_dataclass(seen):
            found.add(seen)
            hints = get_type_hints(seen)
            unseen.extend(hints[field.name] for field in fields(seen))
        elif issubclass(seen, Enum | RLMError):
            found.add(seen)
    return found


def _encoder(cls: MessageType, code: int) -> Callable[[Any], Any]:
    """Take an instance apart into the arguments of its constructor, after its number."""
    tag = msgpack.ExtType(code, b"")
    if issubclass(cls, Enum):
        members = {member: msgpack.ExtType(code, bytes([index])) for index, member in enumerate(cls)}
        return members.__getitem__
    if issubclass(cls, RLMError):
        return lambda error: (tag, *error.args)
    names = _field_names(cls)
    if len(names) < 2:
        return lambda value: (tag, *(getattr(value, name) for name in names))
    values = attrgetter(*names)
    return lambda value: (tag, *values(value))


def _field_names(cls: MessageType) -> tuple[str, ...]:
    if is_dataclass(cls):
        return tuple(field.name for field in fields(cls))
    return tuple(member.name for member in cls) if issubclass(cls, Enum) else ()


def _name(cls: MessageType) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


PLAIN = Codec()
"""Plain values only."""


CALL_TIMEOUT_S = 60.0
"""Longer than anything an actor holds a call for (a long poll: 10 s)."""
MethodT = TypeVar("MethodT", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """How a method is called from afar."""

    timeout_s: float | None
    """How long a call waits for its reply; None: for ever."""
    is_repeated: bool
    """It is called again where the server is gone. False: its caller gets the `ConnectionError`."""
    errors: tuple[type[RLMError], ...]
    """Errors that reach the caller as themselves; others are a `RemoteCallError`."""


def rpc_method(
    *,
    timeout_s: float | None = CALL_TIMEOUT_S,
    is_repeated: bool = True,
    errors: tuple[type[RLMError], ...] = (),
) -> Callable[[MethodT], MethodT]:
    """Let other processes call a coroutine method; it may be called twice for one call of theirs."""

    def mark(method: MethodT) -> MethodT:
        vars(method)["rpc_method"] = RpcMethod(timeout_s, is_repeated, errors)
        return method

    return mark


@dataclass(frozen=True, slots=True)
class RpcService:
    """The methods of a class that may be called, and the codec of their messages."""

    methods: Mapping[str, RpcMethod]
    codec: Codec


def service_of(cls: type[Any]) -> RpcService:
    """Find the methods that `rpc_method` marked, and the types in their annotations."""
    methods: dict[str, RpcMethod] = {}
    types: list[Any] = []
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if (options := vars(method).get("rpc_method")) is not None:
            if method.__code__.co_kwonlyargcount:  # its signature may be one that Ray has added to
                raise TypeError(f"{name}: arguments travel in order, so none may be keyword-only")
            methods[name] = options
            types += [*get_type_hints(method).values(), *options.errors]
    return RpcService(methods, Codec(*types))
