"""The Ray of the suite lives beside those that scripts and commands start for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ray._private import parameter


@contextmanager
def usual_port_left_free() -> Iterator[None]:
    """A Ray that is started in here lets its agent listen where the system says.

    Two agents want the same port otherwise, and the later Ray waits seconds for it, every time one is started.
    """
    usual = parameter.RayParams
    parameter.RayParams = partial(usual, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        parameter.RayParams = usual
