"""The command in this process with a run that needs no Ray, and the command as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from rlm_ray.cli.app import app
from rlm_ray.runs.run import Result

ANSWERED = Result("the answer", "answered", "", "run-1", 2, 0.5)


class FakeRun:
    """Stands in for `Run`: keeps what it was asked and ends as it was told to."""

    is_resumable = False
    outcome: Result | BaseException = ANSWERED
    asked: list

    def __init__(self, settings, query, context, **_):
        self.settings, self.query, self.context = settings, query, context
        self.asked.append(self)

    async def start(self):
        pass

    async def state(self):
        return None

    async def result(self):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture(scope="session")
def as_documented():
    """Parse what a command printed with --json, by the definition of that name in docs/cli-json.schema.json."""
    documented = json.loads((Path(__file__).parents[2] / "docs" / "cli-json.schema.json").read_text())

    def parse(name, printed):
        value = json.loads(printed)
        schema = {"$defs": documented["$defs"], "$ref": f"#/$defs/{name}"}
        jsonschema.Draft202012Validator(schema).validate(value)
        return value

    return parse


@pytest.fixture
def fake_run(monkeypatch):
    """The class of all runs: set `.outcome`, read `.asked`."""

    fake = type("Fake", (FakeRun,), {"asked": []})
    monkeypatch.setattr("rlm_ray.rlm.Run", fake)
    monkeypatch.setattr("rlm_ray.cli.ask.check_models", lambda *_: None)  # no model is asked
    return fake


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run a command line in this process, in a folder of its own: `.exit_code`, `.stdout`, `.stderr`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=b""):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return run


@pytest.fixture
def rlm_ray(tmp_path):
    """Run a command line as a process of its own, in a folder of its own."""

    def run(*arguments, stdin="", timeout=90, **environment):
        command = [sys.executable, "-m", "rlm_ray", *map(str, arguments)]
        settings = {"cwd": tmp_path, "env": {**os.environ, **environment}, "timeout": timeout}
        given = {"stdin": stdin} if isinstance(stdin, int) else {"input": stdin}
        return subprocess.run(command, capture_output=True, text=True, check=False, **given, **settings)

    return run
