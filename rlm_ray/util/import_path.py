"""Where this process imports from: never the working folder, which may be anybody's.

Imports only what every Python process has loaded already: nothing else is safe before this has run.
"""

from __future__ import annotations

import os
import sys


def drop_working_folder() -> None:
    """Take off the import path what Python put there for the script or `-m`, and relative entries of `PYTHONPATH`.

    Processes started after this inherit a `PYTHONPATH` without them.
    """
    if not sys.flags.safe_path:
        del sys.path[:1]
    given = os.environ.get("PYTHONPATH")
    if given is None:
        return
    kept = absolute_entries(given)
    relative = {os.path.abspath(entry) for entry in given.split(os.pathsep)} - set(kept)  # noqa: PTH100
    sys.path[:] = [entry for entry in sys.path if entry not in relative]
    os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def absolute_entries(path: str) -> list[str]:
    """Return the entries of a `PYTHONPATH` that do not depend on the working folder; an empty entry means that folder."""
    return [entry for entry in path.split(os.pathsep) if os.path.isabs(entry)]  # noqa: PTH117
