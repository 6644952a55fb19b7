"""The methods: what asks a model a task's question. Each cell runs in a process of its own, which may crash or hang.

A method is written `KIND[:KEY=VALUE]...`, such as `direct`, `ours:max_depth=2:profile=cautious`, `official`,
`mapreduce:size=20000`, `ours:name=before:python=/path/to/other/checkout/.venv/bin/python`. `name` is what it is called in
tables (else, all of it); `python` is the interpreter; anything else is a setting of `RLM` of either library.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import requests
from peers_environment import peers_python

from quality.endpoint import CellUsage, ModelAddress, error_message
from quality.task import Task

METHOD_KINDS = ("direct", "ours", "official", "mapreduce")
_WORKERS = Path(__file__).parent / "workers"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "RAY_TMPDIR", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO")
"""All that a worker's environment has of ours: no key is among it."""
_START_S = 180.0
"""A worker's imports and Ray's start, on a machine at work; not counted as the method's time."""
_GRACE_S = 15.0
"""A method that keeps to the time limit itself has so long to say what it has."""
_DIRECT_MAX_CHARS_PER_TOKEN = 8
_WINDOW_WORDS = ("context", "too long", "too large", "maximum", "exceed", "window")
_REDUCE_OPTIONS = ("size", "split_by", "overlap", "reduce")


@dataclass(frozen=True, slots=True)
class Method:
    """One column of the table."""

    kind: str
    name: str
    python: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a method made of a question."""

    status: str
    """`answered`, `none` (it ended without an answer), `too_long`, `timeout`, `failed`."""
    answer: str | None = None
    why: str = ""
    """One line where it was not simply answered."""
    turns: int = 0
    seconds: float = 0.0
    version: str = ""


class CellAddress(Protocol):
    """The endpoint as methods see it."""

    address: ModelAddress

    def open_cell(self, cell: str) -> str: ...
    def usage(self, cell: str) -> CellUsage: ...


def parse_methods(text: str) -> list[Method]:
    """Read methods separated by commas or blanks; raises ValueError for one that is none."""
    methods = [_parse_method(item) for item in text.replace(",", " ").split()]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"two methods have the same name ({', '.join(names)}); give them different name=")
    return methods


def _parse_method(text: str) -> Method:
    kind, *options = text.split(":")
    if kind not in METHOD_KINDS:
        raise ValueError(f"there is no method {kind}; there are {', '.join(METHOD_KINDS)}")
    values: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"{text}: {option} is not KEY=VALUE")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    name, python = str(values.pop("name", text)), str(values.pop("python", ""))
    return Method(kind, name, python, values)


def ask(method: Method, task: Task, cells: CellAddress, folder: Path, time_s: float) -> Reply:
    """Answer one question; whatever happens to the method is a `Reply`.

    `folder` is empty and of this cell alone; its name is the cell's at the endpoint.
    """
    try:
        if method.kind == "direct":
            return _ask_directly(task, cells, folder.name, time_s)
        python = method.python or (peers_python() if method.kind == "official" else sys.executable)
        return _ask_worker(method, python, task, cells, folder, time_s)
    except (OSError, subprocess.SubprocessError) as error:
        return Reply("failed", why=_one_line(f"{type(error).__name__}: {error}"))


def _ask_directly(task: Task, cells: CellAddress, cell: str, time_s: float) -> Reply:
    """One call with the whole context before the question."""
    base = cells.open_cell(cell)
    window = _window_tokens(base)
    if window and len(task.context) > _DIRECT_MAX_CHARS_PER_TOKEN * window:
        return Reply("too_long", why=f"{len(task.context):,} characters for a window of {window:,} tokens")
    body = {"messages": [{"role": "user", "content": f"{task.context}\n\n{task.question}"}]}
    started = time.monotonic()
    try:
        answered = requests.post(f"{base}/chat/completions", json=body, timeout=time_s)
        reply = answered.json()
    except requests.Timeout:
        return Reply("timeout", why=f"{time_s:g} s", seconds=time_s)
    except (requests.RequestException, ValueError) as error:
        return Reply("failed", why=_one_line(f"{type(error).__name__}: {error}"))
    seconds = time.monotonic() - started + cells.usage(cell).saved_s
    if answered.status_code != requests.codes.ok:
        why = error_message(reply)
        too_long = answered.status_code in (400, 413, 422) and any(
            word in why.lower() for word in _WINDOW_WORDS
        )
        return Reply("too_long" if too_long else "failed", why=_one_line(why), seconds=seconds)
    answer = (reply.get("choices") or [{}])[0].get("message", {}).get("content")
    return Reply("answered" if answer else "none", answer, turns=1, seconds=seconds)


def _window_tokens(base: str) -> int:
    """The window where the server tells it (llama.cpp in `/props`, vLLM in `/v1/models`); else 0."""
    for url in (f"{base.removesuffix('/v1')}/props", f"{base}/models"):
        try:
            told = requests.get(url, timeout=10).json()
            first = (told.get("data") or [{}])[0]
            window = told.get("default_generation_settings", {}).get("n_ctx") or first.get("max_model_len")
        except (requests.RequestException, ValueError, AttributeError, TypeError, LookupError):
            continue
        if window:
            return int(window)
    return 0


def _ask_worker(  # noqa: PLR0913, PLR0917 - a cell and how it is run
    method: Method, python: str, task: Task, cells: CellAddress, folder: Path, time_s: float
) -> Reply:
    context, result, started = folder / "context.txt", folder / "result.json", folder / "started"
    context.write_text(task.context, "utf-8")
    settings = dict(method.settings)
    if method.kind == "mapreduce":
        settings["map_reduce"] = {key: settings.pop(key) for key in _REDUCE_OPTIONS if key in settings}
    asked = {
        "question": task.question,
        "context": str(context),
        "result": str(result),
        "started": str(started),
        "base": cells.open_cell(folder.name),
        "model": cells.address.short_name,
        "time_s": time_s,
        "settings": settings,
    }
    worker = _WORKERS / ("official.py" if method.kind == "official" else "ours.py")
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            in_time = _wait(
                process, asked, started, lambda: time_s + _GRACE_S - cells.usage(folder.name).saved_s
            )
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
    saved_s = cells.usage(folder.name).saved_s
    context.unlink(missing_ok=True)
    if not in_time:
        return Reply("timeout", why=f"{time_s:g} s", seconds=time_s)
    try:
        told = json.loads(result.read_text("utf-8"))
    except (OSError, ValueError):
        said = _last_line(log)
        return Reply("failed", why=_one_line(said or f"exit {process.returncode}"))
    return Reply(
        "answered" if told["answer"] else "none",
        told["answer"],
        _one_line(told["why"]),
        told["turns"],
        told["seconds"] + saved_s,
        told["version"],
    )


def _wait(process: subprocess.Popen[bytes], asked: Mapping[str, Any], started: Path, left_s: Any) -> bool:
    """Send the question and wait for the end; False if it did not come in time.

    The pipe stays open meanwhile: a worker ends when it closes, also where this process was killed.
    """
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
    began, start_by = None, time.monotonic() + _START_S
    while True:
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if began is None and started.exists():
                began = now
            if (now > start_by) if began is None else (now > began + left_s()):
                return False
        else:
            return True


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()[-200:] if line.strip()]
    raised = [
        line for line in lines if "Error" in line.partition(":")[0] and " " not in line.partition(":")[0]
    ]
    return (raised or lines or [""])[-1]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:240]
