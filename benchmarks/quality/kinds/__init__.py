"""The kinds of tasks, one file for each kind of text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quality.kinds import book, logs, markdown, meaning, peps, tables
from quality.task import Kind

KINDS: Mapping[str, Kind] = MappingProxyType(
    {kind.name: kind for module in (logs, tables, markdown, peps, book, meaning) for kind in module.KINDS}
)
"""By name."""
