"""`rlm-ray`: the command line. Answers go to stdout, everything else to stderr."""

from __future__ import annotations

import io
import logging
import sys

from rlm_ray.util.import_path import drop_working_folder


def main() -> None:
    """Run the console script."""
    drop_working_folder()
    from rlm_ray.cli.app import app
    from rlm_ray.cli.console import PrintableFormatter, exit_process

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer is never lost to what a terminal cannot show
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter())
    try:
        app(prog_name="rlm-ray")
    except SystemExit as ended:
        exit_process(ended.code)
