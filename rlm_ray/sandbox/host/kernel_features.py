"""Which layers of the jail this kernel offers, each with the reason where it does not."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rlm_ray.errors import SandboxError

_STATUS = Path("/proc/self/status")
_REASONS = {
    errno.ENOSYS: "the kernel is too old for it, or a profile of the container hides it",
    errno.EOPNOTSUPP: "it is not switched on: boot with landlock among those of lsm=",
    errno.EPERM: "the container's seccomp profile refuses it; RuntimeDefault of containerd 1.7 or Docker 23 does not",
}
"""What an error of the probe means; others have their own words."""


@dataclass(frozen=True, slots=True)
class Privileges:
    """What this process may, as the kernel tells it."""

    uid: int
    capabilities: int
    """How many are effective. The sandbox needs none."""
    no_new_privs: bool
    seccomp: bool
    """Whether a filter of its own, as a container runtime sets one, holds this process."""

    @property
    def needless(self) -> bool:
        """Tell whether this process may more than an ordinary user."""
        return self.uid == 0 or self.capabilities > 0


def read_privileges(status: Path = _STATUS) -> Privileges:
    """Read what the kernel says of this process. Raises `OSError` where it says nothing."""
    lines = (line.partition(":") for line in status.read_text("ascii", "replace").splitlines())
    fields = {name: value.split() for name, _, value in lines if value.strip()}
    effective = int(fields.get("CapEff", ["0"])[0], 16)
    return Privileges(
        int(fields["Uid"][1]),
        effective.bit_count(),
        fields.get("NoNewPrivs") == ["1"],
        fields.get("Seccomp") == ["2"],
    )


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
    """Ask the kernel; change nothing in this process."""
    if sys.platform != "linux":
        return (
            KernelFeature("Linux", f"this system is {sys.platform}, the jail is made of Linux system calls"),
        )
    return (_seccomp(), _landlock())


def require_features(found: Iterable[KernelFeature], *, allow_degraded: bool) -> None:
    """Raise `SandboxError`, which names the first missing layer and what to do, unless degraded is allowed."""
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
        number = error.errno or 0
        return KernelFeature(name, _REASONS.get(number, os.strerror(number)))
    return KernelFeature(name, detail=detail())
