"""The messages between drivers and session actors, and how the schema of an answer travels in them.

Actors do not import the user's modules, so a pydantic model goes by value. Where it cannot (it needs what does not pickle),
the actor checks by its JSON Schema, and the type checks the answer at the end of the run.
"""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

from ray import cloudpickle

from rlm_ray.cluster.context_ref import ContextRef
from rlm_ray.core.context import ContextPart
from rlm_ray.core.llm import Message
from rlm_ray.llm.run_context import RunContext
from rlm_ray.structured.schema import AnswerSchema

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A session to run."""

    run: RunContext
    path: tuple[int, ...]
    """The ordinals of the sub-calls that lead here from the root; empty for the root."""
    parent: str
    """The actor that sent it out; empty for the root."""
    query: str
    context: ContextRef
    attempt: int = 1
    """2 and more: the actors it was sent to before died, or the run is taken up again."""
    follow_ups: tuple[str, ...] = ()
    """Further questions of a conversation; the session answers the last."""
    lease: str = ""
    """The lease of its slot, which it releases at its end; empty where its caller does that."""
    messages: tuple[Message, ...] = ()
    """What it asks, word by word, where it answers directly; none: the question over the context."""
    model: str = ""
    """The model that its parent chose for it; empty: the one of its depth."""
    schemas: tuple[ShippedSchema | None, ...] = ()
    """What the answer to each question looks like, the first and the further ones."""

    @property
    def replays(self) -> bool:
        """Tell whether something of it may be on record."""
        return self.attempt > 1 or self.run.replays

    @property
    def question(self) -> str:
        """Return the question to be answered."""
        return self.follow_ups[-1] if self.follow_ups else self.query

    @property
    def depth(self) -> int:
        return self.run.depth(self.path)

    @property
    def litellm_model(self) -> str:
        """Return the model that it asks."""
        settings = self.run.settings
        return (settings.model_named(self.model) if self.model else settings.model_at(self.depth))[0]


@dataclass(frozen=True, slots=True)
class LeafCall:
    """One plain model call."""

    ordinal: int
    query: str
    part: ContextPart
    schema: str = ""
    """As `SubCallRequest.schema`."""
    model: str = ""
    """As `SubCallRequest.model`."""
    place: tuple[int, int] | None = None
    """Of a text: the bytes of the root's context that it is a copy of; None where it is none, or is not known."""


@dataclass(frozen=True, slots=True)
class LeafCallBatch:
    """Plain calls of one session, to be made side by side."""

    run: RunContext
    path: tuple[int, ...]
    """Of the session that asks."""
    leaves: tuple[LeafCall, ...]
    context: ContextRef | None
    """The asking session's, where a leaf refers to it."""
    replays: bool = False
    """Some of them may be on record."""


@dataclass(frozen=True, slots=True)
class ShippedSchema:
    """A schema as a message holds it."""

    source: str
    """The JSON Schema as text."""
    type_: bytes = b""
    """The type it was made of, pickled by value; empty for none."""

    @classmethod
    def of(cls, schema: AnswerSchema | None) -> Self | None:
        """Pack a schema; None for none."""
        if schema is None:
            return None
        return cls(schema.source, b"" if schema.type_ is None else _pickled(schema.type_))

    def load(self) -> AnswerSchema:
        """Unpack it in the actor."""
        schema = AnswerSchema.of_source(self.source)
        if not self.type_:
            return schema
        try:
            return AnswerSchema(schema.table, pickle.loads(self.type_))  # noqa: S301 - of the driver of this run
        except Exception as error:  # noqa: BLE001 - whatever its module does
            _log.warning("answers are checked by the JSON Schema alone until the end of the run: %r", error)
            return schema


def _pickled(type_: object) -> bytes:
    try:
        with _modules_by_value():
            return bytes(cloudpickle.dumps(type_))
    except Exception as error:  # noqa: BLE001 - whatever hangs on a class
        _log.warning("%r cannot be sent to the actors: %r", type_, error)
        return b""


@contextmanager
def _modules_by_value() -> Iterator[None]:
    """Have classes of modules that are no installed package pickled by value inside of the block."""
    known = set(cloudpickle.list_registry_pickle_by_value())
    own = [
        module for name, module in list(sys.modules.items()) if name not in known and _is_own(name, module)
    ]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _is_own(name: str, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or name == "__main__" or name.partition(".")[0] == "rlm_ray":
        return False
    path = Path(file).absolute()
    return not any(path.is_relative_to(prefix) for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix})
