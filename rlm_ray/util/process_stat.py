"""What Linux says of a process by its number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_GONE = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """A process that has a number now."""

    state: str
    started: str
    """When the kernel says it was started, in ticks: a later process may have its number, and has another start."""

    @property
    def has_ended(self) -> bool:
        """Tell whether it has ended, and only its parent has not asked how."""
        return self.state in _GONE


def read_process_stat(pid: int) -> ProcessStat | None:
    """Return what is said of a process; None where none has this number, or it is not to be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The name of a program may hold blanks and brackets: the fields are counted after its last bracket.
    fields = text.rpartition(")")[2].split()
    return ProcessStat(fields[0], fields[19])
