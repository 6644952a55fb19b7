"""What the workers of a driver take over from it: variables of its environment, and the folders they import from.

Variables that go to actors on other machines are keys and addresses of providers, the way to them, and credentials of
storages. They travel in calls, never as arguments of an actor's creation: these lie in Ray's GCS, in clear, for as long as
the actor may be started again.

A worker holds keys, so it imports only from where its driver does: Ray would add the driver's working folder, where any
`httpx/` of a downloaded project would run in place of the library. Ray's hook for `uv run` would ship that folder as well,
and fails below the project's own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import ray
from ray._private import ray_constants
from ray.job_config import JobConfig

from rlm_ray.util.import_path import absolute_entries

_PROVIDERS = re.compile(
    r"^(AWS|AZURE|VERTEX|VERTEXAI|GOOGLE|GEMINI|OPENAI|ANTHROPIC|MISTRAL|GROQ|TOGETHER\w*|OPENROUTER|DEEPSEEK|"
    r"OLLAMA|HF|HUGGINGFACE|COHERE|XAI|LITELLM|FIREWORKS\w*|WATSONX|DATABRICKS|REPLICATE|HOSTED_VLLM)_[A-Z0-9_]+$"
    r"|^[A-Z0-9_]+_API_(KEY|BASE|VERSION)$"
)
_NETWORK = re.compile(
    r"^((HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy"
    r"|SSL_CERT_(FILE|DIR)|SSL_(VERIFY|CERTIFICATE|SECURITY_LEVEL)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$"
)
"""Files they name must be there on every node."""
_STORAGES = re.compile(
    r"^((AWS|FSSPEC|GCSFS|GOOGLE|AZURE|CLOUDSDK)_[A-Z0-9_]+|STORAGE_EMULATOR_HOST|BOTO_CONFIG)$"
)
UV_VARIABLE = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"


def provider_environment() -> dict[str, str]:
    """Return what a session actor needs of this process's environment: for litellm, and for files it reads."""
    return {name: value for name, value in os.environ.items() if _is_for_actors(name)}


def storage_environment() -> dict[str, str]:
    """Return what the journal of a run needs of it."""
    return {name: value for name, value in os.environ.items() if _is_for_storage(name)}


def take_storage_environment(environment: dict[str, str]) -> None:
    """Have fsspec and its drivers in this process use these variables."""
    if environment.items() <= os.environ.items():
        return
    os.environ.update(environment)
    import fsspec

    fsspec.config.set_conf_env(fsspec.config.conf)  # it reads its own variables once, at import


@lru_cache(maxsize=2_000)  # each run asks for all variables
def _is_for_actors(name: str) -> bool:
    return _PROVIDERS.match(name) is not None or _is_for_storage(name)


@lru_cache(maxsize=2_000)
def _is_for_storage(name: str) -> bool:
    return _NETWORK.match(name) is not None or _STORAGES.match(name) is not None


class _OwnFoldersOnly(JobConfig):  # type: ignore[misc]  # Ray's classes are Any here
    def _runtime_env_has_working_dir(self) -> bool:
        """Keep Ray from adding the script's folder and the working folder: it asks this, and nothing else does."""
        return True


def driver_job_config() -> JobConfig:
    """Return the job of this process: its workers import from the folder of the script only where the driver does."""
    return _OwnFoldersOnly(_py_driver_sys_path=script_folders())


def script_folders() -> list[str]:
    """Return the folder that Python put first for the script, the module or the prompt of this process; often none."""
    main = sys.modules.get("__main__")
    script = str(Path(sys.argv[0]).resolve().parent) if sys.argv and hasattr(main, "__file__") else ""
    try:
        here = str(Path.cwd())
    except OSError:  # the folder is gone
        here = ""
    searched = [entry or here for entry in sys.path]
    return [folder for folder in dict.fromkeys((script, here)) if folder and folder in searched]


def forget_driver_folders() -> list[str]:
    """Import nothing more from the driver's folders in this worker: an actor of ours needs none of its modules.

    Return these folders."""
    config = ray._private.worker.global_worker.core_worker.get_job_config()  # noqa: SLF001 - Ray has no other way
    for folder in config.py_driver_sys_path:
        if folder in sys.path:
            sys.path.remove(folder)  # once: Ray put it first, and the environment may hold it as well
    return list(config.py_driver_sys_path)


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
