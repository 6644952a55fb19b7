"""What one REPL may use."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlm_ray.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Limits of a REPL. Time spent waiting for sub-calls is not charged to a cell."""

    cell_timeout_s: float = 60.0
    """Wall clock of one message's code."""
    cell_cpu_s: float = 30.0
    """Processor time of one message's code; fair where many sessions share few cores."""
    memory_mb: int = 256
    """What a REPL may use beyond its context and four times the context's bytes."""
    output_chars: int = 20_000
    """How much of what a cell prints is shown, as head and tail."""
    allow_degraded: bool = False
    """Run although the kernel lacks a layer of the jail."""

    def __post_init__(self) -> None:
        _between("cell_timeout_s", self.cell_timeout_s, 0.01, 86_400)
        _between("cell_cpu_s", self.cell_cpu_s, 0.01, 86_400)
        _between("memory_mb", self.memory_mb, 16, 1_048_576)
        _between("output_chars", self.output_chars, 100, 10_000_000)


def _between(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"sandbox.{name}", f"must be a finite number, not {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"sandbox.{name}", f"must be between {low:,} and {high:,}, not {value!r}")
