"""How Ray says that an actor is gone: where its memory monitor killed the process, that is another error."""

from __future__ import annotations

import ray

ACTOR_GONE = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def first_line(error: Exception) -> str:
    """What Ray says first; pages may follow."""
    return str(error).strip().partition("\n")[0]
