"""Which layers of the jail this kernel offers, each with the reason where it does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rlm_ray.errors import SandboxError


@dataclass(frozen=True, slots=True)
class KernelFeature:
    """One thing the kernel does to hold a REPL."""

    name: str
    reason_missing: str = ""
    """Why it is missing here; empty where it works."""
    detail: str = ""

    @property
    def available(self) -> bool:
        return not self.reason_missing


def probe_features() -> tuple[KernelFeature, ...]:
    """Asks the kernel; changes nothing in this process."""
    if sys.platform != "linux":
        return (
            KernelFeature("Linux", f"this system is {sys.platform}, the jail is made of Linux system calls"),
        )
    return (_seccomp(), _landlock())


def require_features(found: Iterable[KernelFeature], *, allow_degraded: bool) -> None:
    """`SandboxError` that names the first missing layer and what to do, unless degraded is allowed."""
    for layer in found:
        if layer.available or (allow_degraded and layer.name == "Landlock"):
            continue
        if layer.name == "Landlock":
            raise SandboxError(
                f"this kernel has no Landlock ({layer.reason_missing}): pass Sandbox(allow_degraded=True) "
                "to run without it, or use kernel 5.13+ with Landlock enabled"
            )
        raise SandboxError(
            f"the sandbox needs {layer.name} ({layer.reason_missing}): run on Linux 5.13 or newer"
        )


def _seccomp() -> KernelFeature:
    from rlm_ray.sandbox.jail import MACHINE, check_seccomp, seccomp_supported

    if not seccomp_supported():
        return KernelFeature("seccomp", f"no table of system calls for {MACHINE}")
    return _probe("seccomp", check_seccomp, lambda: f"{MACHINE}, allow-list")


def _landlock() -> KernelFeature:
    from rlm_ray.sandbox.jail import landlock_version

    return _probe("Landlock", landlock_version, lambda: f"interface version {landlock_version()}")


def _probe(name: str, ask: Callable[[], object], detail: Callable[[], str]) -> KernelFeature:
    try:
        ask()
    except OSError as error:
        return KernelFeature(name, os.strerror(error.errno or 0))
    return KernelFeature(name, detail=detail())
