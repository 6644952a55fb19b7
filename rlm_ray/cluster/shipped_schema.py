"""Sends the schema of an answer to a session actor, with the user's own type where that can be sent.

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

from rlm_ray.structured.schema import AnswerSchema

_log = logging.getLogger(__name__)


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
        schema = AnswerSchema.parse(self.source)
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
