"""The engine behind an OpenAI-compatible address, on Ray Serve: `import_path: rlm_ray.serve:app`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_ray.serve.config import ServerConfig
    from rlm_ray.serve.replica import app

_HOMES = {"ServerConfig": "rlm_ray.serve.config", "app": "rlm_ray.serve.replica"}
_OLD_NAMES = {"AppArgs": "ServerConfig"}

__all__ = ["ServerConfig", "app"]


def __getattr__(name: str) -> object:
    """Import a name when it is first used: Serve takes seconds to import, and keys can be made without it."""
    name = _OLD_NAMES.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
