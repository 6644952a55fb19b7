"""The command that goes on with a run, as it is printed where a run ends without its answer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rlm_ray.cli import options
from rlm_ray.core.secrets import REDACTED
from rlm_ray.core.trusted_settings import destinations, without
from rlm_ray.errors import InputError, JournalError
from rlm_ray.journal.run_store import RunStore, find_run
from rlm_ray.runs.context_store import noted_paths
from rlm_ray.runs.run_history import load_run_history

_HIGHER = {name: f"limits.{name}" for name in ("cost_usd", "tokens", "calls", "sessions")} | {
    "max_iterations": "max_iterations"
}
"""By why a run was stopped, the limit that would stop the next attempt at once."""


def resume_hint(run_dir: str, run_id: str, stop_reason: str = "") -> str:
    """Return the command that goes on with a run of this user's own, and what must be given with it; empty where nothing can.

    It trusts the record where that says where questions go, or which files were read. Keys are on no record.
    """
    folder = RunStore(run_dir, run_id)
    try:
        recorded, paths = load_run_history(folder).settings, noted_paths(folder)
    except JournalError:  # there is no question on record
        return ""
    command = f"rlm-ray resume {shlex.quote(_name(folder))}"
    if paths or destinations(without(recorded, {"run_dir": 1})):
        command += " --trust-record"
    own = {item.name for item in options.own_destinations()}
    missing = [f"{name} again" for name in _hidden_params(recorded) if name not in own]
    missing += [f"a higher {_HIGHER[stop_reason]}"] if stop_reason in _HIGHER else []
    return f"{command} (give {', '.join(missing)})" if missing else command


def _name(folder: RunStore) -> str:
    """Its id, where the command finds it by that; else its address."""
    try:
        found = find_run(folder.run_id, options.settings_of([]).run_dir)
    except (InputError, JournalError):
        return folder.address
    return folder.run_id if found.address == folder.address else folder.address


def _hidden_params(recorded: Mapping[str, Any]) -> list[str]:
    params = recorded.get("params") or {}
    return [f"params.{name}" for name, value in params.items() if REDACTED in repr(value)]
