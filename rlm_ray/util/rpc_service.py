"""Which methods of a class other processes may call: `rpc_method` marks them, and `service_of` finds them.

The annotations of these methods are the messages of the service: its codec knows the types in them and no others, and its
fingerprint tells two versions apart. A caller has a stub that has the type of the class (`cluster/detached_actor.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from rlm_ray.errors import RLMError
from rlm_ray.util.codec import Codec
from rlm_ray.util.rpc import CALL_TIMEOUT_S

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
