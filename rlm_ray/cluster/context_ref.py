"""References to contexts for messages between processes: small contexts inline, large ones once in Ray's object store.

A `ContextRef` is small whatever the context: the bytes stay where they are, as one `uint8` array that every process of a
node maps without a copy. A piece of a context is a reference to a range of the same bytes.
"""

from __future__ import annotations

import uuid
from array import array
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from rlm_ray.core.context import ByteRange, Context, ContextInfo, ContextPart, DocumentRange, make_context
from rlm_ray.errors import ContextLostError

INLINE_BYTES = 64 * 1024
"""Up to this size a context travels in the message itself; Ray inlines up to 100 KB."""

Index = tuple["array[int] | None", "tuple[str, ...] | None"]


@dataclass(frozen=True, slots=True)
class ContextRef:
    """A context, or a piece of one, that any process of the cluster can open."""

    data: Any
    """The bytes, or the `ObjectRef` of their array."""
    index: Any
    """Document offsets and ids, or the `ObjectRef` of them."""
    info: ContextInfo
    key: str
    slices: tuple[ByteRange | DocumentRange, ...] = ()
    """Ranges, applied one after the other."""
    origin: int | None = None
    """As `Context.origin`, of the whole."""

    def slice(self, part: ByteRange | DocumentRange) -> ContextRef:
        return replace(self, slices=(*self.slices, part))


def put_context(context: Context) -> ContextRef:
    """Put a context where the whole cluster can read it. Copies a large one into the object store, once."""
    index: Index = (context.offsets, context.ids)
    key = context.key or uuid.uuid4().hex
    if context.nbytes <= INLINE_BYTES:
        return ContextRef(bytes(context.data), index, context.info, key, origin=context.root_offset)
    flat = np.frombuffer(context.data, dtype=np.uint8)
    stored_index = ray.put(index) if context.info.documents > 1_000 else index
    return ContextRef(ray.put(flat), stored_index, context.info, key, origin=context.root_offset)


def ref_of_part(parent: ContextRef, part: ContextPart) -> ContextRef:
    """Return the reference of a sub-call's context: to the same bytes where it is a piece of the parent's."""
    if isinstance(part, ByteRange | DocumentRange):
        return parent.slice(part)
    return put_context(make_context(part))


async def get_context(context_ref: ContextRef) -> Context:
    """Open the context of a reference; large data is mapped, not copied. Raises `ContextLostError`."""
    try:
        data = await context_ref.data if isinstance(context_ref.data, ray.ObjectRef) else context_ref.data
        offsets, ids = (
            await context_ref.index if isinstance(context_ref.index, ray.ObjectRef) else context_ref.index
        )
    except ray.exceptions.ObjectLostError as error:
        raise ContextLostError("the object store lost the context of the session") from error
    context = Context(data, context_ref.info, offsets, ids, context_ref.key, context_ref.origin)
    for piece in context_ref.slices:
        context = context.slice(piece)
    return context
