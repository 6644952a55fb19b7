"""What a driver of ours tells Ray of itself, and what its workers take over from it.

A worker holds keys, so it imports only from where its driver does: Ray would add the driver's working folder, where
any `httpx/` of a downloaded project would run in place of the library. Ray's hook for `uv run` would ship that folder
as well, and fails below the project's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._private import ray_constants
from ray.job_config import JobConfig

from rlm_ray.util.import_path import absolute_entries

UV_VARIABLE = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"


class _OwnFoldersOnly(JobConfig):  # type: ignore[misc]  # Ray's classes are Any here
    def _runtime_env_has_working_dir(self) -> bool:
        """Keep Ray from adding the script's folder and the working folder: it asks this, and nothing else does."""
        return True


def driver_job_config() -> JobConfig:
    """The job of this process: its workers import from the folder of the script only where the driver does."""
    return _OwnFoldersOnly(_py_driver_sys_path=script_folders())


def script_folders() -> list[str]:
    """The folder that Python put first for the script, the module or the prompt of this process; often none."""
    main = sys.modules.get("__main__")
    script = str(Path(sys.argv[0]).resolve().parent) if sys.argv and hasattr(main, "__file__") else ""
    try:
        here = str(Path.cwd())
    except OSError:  # the folder is gone
        here = ""
    searched = [entry or here for entry in sys.path]
    return [folder for folder in dict.fromkeys((script, here)) if folder and folder in searched]


def forget_driver_folders() -> None:
    """Import nothing more from the driver's folders in this worker: an actor of ours needs none of its modules."""
    config = ray._private.worker.global_worker.core_worker.get_job_config()  # noqa: SLF001 - Ray has no other way
    for folder in config.py_driver_sys_path:
        if folder in sys.path:
            sys.path.remove(folder)  # once: Ray put it first, and the environment may hold it as well


@contextmanager
def trusted_start() -> Iterator[None]:
    """Have Ray start processes that import nothing from the working folder, and make no environment of `uv run`.

    Nor does it write this process's command line into its GCS, with the keys and the question on it.
    """
    entrypoint = ray._private.utils.get_entrypoint_name  # noqa: SLF001
    ray._private.utils.get_entrypoint_name = lambda: Path(sys.argv[0]).name  # noqa: SLF001
    uv, path = ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV, os.environ.get("PYTHONPATH")
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = uv and UV_VARIABLE in os.environ
    if path is not None:
        os.environ["PYTHONPATH"] = os.pathsep.join(absolute_entries(path))
    try:
        yield
    finally:
        ray._private.utils.get_entrypoint_name = entrypoint  # noqa: SLF001
        ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = uv
        if path is not None:
            os.environ["PYTHONPATH"] = path
