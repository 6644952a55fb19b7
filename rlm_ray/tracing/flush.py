"""What providers still have to send is sent behind the runs; only the end of the process waits for it, and not long."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import Any

_log = logging.getLogger(__name__)

_all: dict[Any, _Sending] = {}
_last_deadline = 0.0


class _Sending:
    """Flushes one provider in a thread of its own, which ends with the work; asked meanwhile, once more."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._changed = threading.Condition()
        self._wanted = self._done = 0
        self._runs = False

    def ask(self) -> None:
        """Send what it holds now, soon."""
        with self._changed:
            self._wanted += 1
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._work, name="rlm_ray telemetry flush", daemon=True).start()

    def wait(self, deadline: float) -> bool:
        """Until all that was asked for is done; False where the time is over before."""
        with self._changed:
            wanted = self._wanted
            left = max(0.0, deadline - time.monotonic())
            return self._changed.wait_for(lambda: self._done >= wanted, left)

    def _work(self) -> None:
        while True:
            with self._changed:
                wanted = self._wanted
                if self._done == wanted:
                    self._runs = False
                    return
            try:
                self._provider.force_flush()
            except Exception:  # noqa: BLE001 - the SDK's trouble is not the run's
                _log.debug("flush failed", exc_info=True)
            with self._changed:
                self._done = wanted
                self._changed.notify_all()


def flush_behind(flush_s: float, *providers: Any) -> None:
    """Have providers send what they hold, without waiting; the end of the process waits until `flush_s` from now."""
    global _last_deadline  # noqa: PLW0603 - the process has one end
    _last_deadline = max(_last_deadline, time.monotonic() + flush_s)
    for provider in providers:
        _all.setdefault(provider, _Sending(provider)).ask()


def flush(flush_s: float, *providers: Any) -> bool:
    """Have providers send what they hold (none named: wait for all asked before); False when not done in time."""
    flush_behind(0.0, *providers)
    deadline = time.monotonic() + flush_s
    waited = [_all[provider] for provider in providers] or list(_all.values())
    in_time = all(sending.wait(deadline) for sending in waited)
    if not in_time:
        _log.info("the collector did not take everything within %g s", flush_s)
    return in_time


@atexit.register
def flush_at_exit() -> None:
    """Wait for what is being sent, as long as the settings of the last runs allow."""
    for sending in _all.values():
        sending.wait(_last_deadline)
