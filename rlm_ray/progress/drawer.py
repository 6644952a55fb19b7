"""Draws again and again from a thread of its own. What goes wrong with a display is no reason to disturb the work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Drawer:
    """`begin` it, and `end` it; drawing stops at its first failure."""

    def __init__(self, name: str, every_s: float, draw: Callable[[], None]) -> None:
        self._every_s, self._draw = every_s, draw
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)

    def begin(self, *first: Callable[[], None]) -> None:
        """Do these, then draw from now on."""
        for action in first:
            _safely(action)
        self._thread.start()

    def end(self, *last: Callable[[], None]) -> None:
        """Draw no more, then do these."""
        self._over.set()
        self._thread.join()
        for action in last:
            _safely(action)

    def _go_on(self) -> None:
        while not self._over.wait(self._every_s) and _safely(self._draw):
            pass


def _safely(action: Callable[[], None]) -> bool:
    try:
        action()
    except Exception:
        logger.debug("the display cannot be shown", exc_info=True)
        return False
    return True
