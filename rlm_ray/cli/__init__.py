"""`rlm-ray`: the terminal's face. Answers go to stdout, everything else to stderr."""

from __future__ import annotations


def main() -> None:
    """The console script."""
    from rlm_ray.cli.app import app
    from rlm_ray.cli.exits import leave

    try:
        app()
    except SystemExit as ended:
        leave(ended.code)
