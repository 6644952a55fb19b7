"""What a deployment is configured with: the `args` of the application in Serve's YAML. Unknown names are refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from rlm_ray.config import DEFAULT_RUN_DIR

JsonDict = dict[str, Any]
KEYS_VARIABLE = "RLM_RAY_SERVE_KEYS"
"""The keys, where no `keys_file` has them."""


class ServerConfig(BaseModel):
    """Everything has a default: without arguments it serves the offline model to this machine only."""

    model_config = ConfigDict(extra="forbid")

    run_dir: Annotated[str, Field(min_length=1)] = DEFAULT_RUN_DIR
    """The run store: runs, files and what each key has spent. A path every replica sees, or any fsspec URL."""
    settings: JsonDict = {}
    """The settings of every run, as in `rlm-ray.toml`."""
    models: dict[str, JsonDict] = {}
    """Names that clients may ask for, each with settings of its own on top of `settings`."""
    allow_models: list[str] = []
    """litellm models that clients may ask for as `rlm/<model>`; `*` stands for anything."""
    keys_file: str = ""
    """A YAML file of hashed keys; empty: the variable RLM_RAY_SERVE_KEYS. Without keys only this machine may ask."""
    max_runs: Annotated[int, Field(ge=1)] = 1_000
    """Runs at work or waiting for a place in the engine; more are refused with 429."""
    body_bytes: Annotated[int, Field(ge=1_000)] = 64 << 20
    """The most that a request may hold, but for uploads."""
    file_bytes: Annotated[int, Field(ge=1_000)] = 1 << 30
    """The most that an uploaded file, or what a context URI names, may hold."""
    file_days: Annotated[float, Field(gt=0)] = 30.0
    """So long an uploaded file is kept."""
    context_uris: list[str] = []
    """Folders whose URIs `rlm.context_uri` may name, each with `/` at its end: `s3://team/`, `https://wiki.example.org/`."""
    load_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """So long the context of a request may take to be read."""
    loads_per_key: Annotated[int, Field(ge=1)] = 4
    """Contexts of one key that are read at the same time, in each replica."""
    direct_without_context: bool = True
    """A conversation without a long text or a file is one plain call; false: always a session."""
    cors_origins: list[str] = []
    """Pages of these origins may ask through a browser: `https://chat.example.org`, or `*` for all where there are keys.
    Without keys, pages of this machine may besides."""
    keep_alive_s: Annotated[float, Field(gt=0)] = 10.0
    """A stream in which nothing happens says so this often."""
