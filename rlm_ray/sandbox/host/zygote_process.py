"""The first zygote: exec-ed by the host, so that it shares no memory, no environment, no descriptor."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rlm_ray.errors import SandboxError
from rlm_ray.sandbox.host.zygote_client import ZygoteClient

_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0
_PACKET_BYTES = 4_096
_BOOTSTRAP = "import sys; sys.path += sys.argv[2:]; from rlm_ray.sandbox.guest.zygote import main; main(int(sys.argv[1]))"


class ZygoteProcess:
    """The exec-ed zygote and its process."""

    def __init__(self, process: subprocess.Popen[bytes], nursery: ZygoteClient) -> None:
        self._process = process
        self.nursery = nursery

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls) -> ZygoteProcess:
        """`SandboxError` with what it wrote on standard error if it does not come up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        errors = os.memfd_create("zygote-errors")
        try:
            with theirs:
                process = _spawn(theirs, errors)
            await _wait_for_start(ours, process, errors)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(errors)
        return cls(process, ZygoteClient(ours))

    async def aclose(self) -> None:
        """Ends the zygote and all that it forked; bounded."""
        self.nursery.close()
        await _reap(self._process)


async def _wait_for_start(control: socket.socket, process: subprocess.Popen[bytes], errors: int) -> None:
    greeting = b""
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            greeting = await asyncio.get_running_loop().sock_recv(control, _PACKET_BYTES)
    except (TimeoutError, ConnectionError):
        pass  # its standard error says more
    finally:
        if not greeting:
            process.kill()
            await _reap(process)
    if not greeting:
        raise SandboxError(f"the zygote does not start: {_read_all(errors) or 'no reason given'}")


async def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        await asyncio.to_thread(process.wait, _END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)


def _spawn(control: socket.socket, errors: int) -> subprocess.Popen[bytes]:
    # Never forks this process's memory: without a preexec function subprocess uses vfork.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
        [
            sys.executable,
            "-S",
            "-s",
            "-P",
            "-X",
            "utf8",
            "-W",
            "ignore",
            "-c",
            _BOOTSTRAP,
            str(control.fileno()),
            *_search_path(),
        ],
        # A cell that is run again, here or on another node, finds sets in the same order and the same local time.
        env={"PYTHONHASHSEED": "0", "TZ": "UTC0"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=(control.fileno(),),
        start_new_session=True,
    )


def _search_path() -> Sequence[str]:
    """Where the zygote finds this package and RestrictedPython, and nothing else on purpose."""
    found = importlib.util.find_spec("RestrictedPython")
    if found is None or found.origin is None:
        raise SandboxError("RestrictedPython is not installed: pip install RestrictedPython")
    here = Path(__file__).resolve().parents[3]
    return list(dict.fromkeys([str(here), str(Path(found.origin).resolve().parents[1])]))


def _read_all(descriptor: int) -> str:
    return os.pread(descriptor, 4_000, 0).decode("utf-8", "replace").strip()
