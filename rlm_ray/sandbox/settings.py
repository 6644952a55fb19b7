"""What one REPL may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlm_ray.core.setting_rules import NEEDS_TRUST, Number, check_fields


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Limits of a REPL. Time spent waiting for sub-calls is not charged to a cell."""

    cell_timeout_s: Annotated[float, Number(0.01, 86_400)] = 60.0
    """Wall clock of one message's code; it is interrupted then and its variables are kept, where that can be."""
    cell_cpu_s: Annotated[float, Number(0.01, 86_400)] = 30.0
    """Processor time of one message's code, likewise; fair where many sessions share few cores."""
    memory_mb: Annotated[int, Number(16, 1_048_576)] = 256
    """What a REPL may use beyond its context and four times the context's bytes."""
    output_chars: Annotated[int, Number(100, 10_000_000)] = 20_000
    """How much of what a cell prints is shown, as head and tail."""
    allow_degraded: Annotated[bool, NEEDS_TRUST] = False
    """Run although the kernel lacks a layer of the jail."""

    @property
    def kill_after_s(self) -> float:
        """Return the wall clock after which code that could not be interrupted is killed."""
        return self.cell_timeout_s + _grace_s(self.cell_timeout_s)

    @property
    def cpu_grace_s(self) -> float:
        """Return the processor time beyond `cell_cpu_s` after which it is."""
        return _grace_s(self.cell_cpu_s)

    def __post_init__(self) -> None:
        check_fields(self, "sandbox.")


def _grace_s(limit_s: float) -> float:
    """Return what an interruption may take: enough on a busy machine, little beside the limit itself."""
    return min(5.0, max(1.0, limit_s / 10))
