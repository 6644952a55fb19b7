"""A model server in a process of its own, so that a benchmark does not share its GIL.

The child prints its URL as one line of JSON and ends when its stdin closes, so it never outlives
the process that spawned it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

_STOP_TIMEOUT_S = 10.0


class ServerProcess:
    """`python -m rlm_ray.testing` with these arguments, for as long as the `with` block lasts."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        """The `api_base` for clients, once started."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the model server is not running")
        return self._process.pid

    def start(self) -> None:
        """Spawn it; returns when connections are accepted."""
        command = [sys.executable, "-P", "-m", "rlm_ray.testing", *self._arguments]
        pipe = subprocess.PIPE
        # The child finds the modules that this process finds: a test's own script among them.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self.close()
            raise RuntimeError(f"the model server ended with exit code {code} before it listened")
        self.url = json.loads(line)["url"]

    def close(self) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        with process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def stats(self) -> dict[str, Any]:
        """Return the server's counters: the fields of `Stats`, and `provider` with a strict provider's ledger."""
        return self._ask("GET")

    def reset(self) -> None:
        """Start all counters anew."""
        self._ask("DELETE")

    def _ask(self, method: str) -> dict[str, Any]:
        url = self.url.removesuffix("/v1") + "/stats"
        request = urllib.request.Request(url, method=method)  # noqa: S310 - our own http URL on loopback
        # No proxy: the environment's would be asked for a loopback address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_STOP_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
