"""What `rlm-ray ask` prints, where, and the code it exits with."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from rlm_ray.errors import (
    AuthenticationError,
    ClusterError,
    ConfigError,
    InputError,
    LimitReached,
    ModelUnavailableError,
    SandboxError,
)
from rlm_ray.runs.run import Result


def test_the_answer_is_all_there_is_on_stdout_and_nothing_on_stderr(invoke, fake_run):
    done = invoke("ask", "what?", stdin=b"text")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "the answer\n", "")


def test_json_has_the_answer_and_how_it_came_about(invoke, fake_run):
    done = invoke("ask", "what?", "--json", stdin=b"text")
    result = json.loads(done.stdout)
    assert (result["answer"], result["stop_reason"], result["why"]) == ("the answer", "answered", "")
    assert (result["run_id"], result["turns"], result["seconds"]) == ("run-1", 2, 0.5)
    assert set(result) == {field.name for field in fields(Result)}


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["plain", "json"])
@pytest.mark.parametrize(("reason", "code"), [("max_iterations", 4), ("time_s", 4), ("interrupted", 130)])
def test_a_run_that_was_stopped_prints_what_is_known_and_says_why(invoke, fake_run, as_json, reason, code):
    fake_run.outcome = Result("half of it", reason, "it had to end", "run-1", 3, 1.0)
    done = invoke("ask", "what?", *as_json, stdin=b"text")
    assert done.exit_code == code
    assert "half of it" in done.stdout
    assert done.stderr == f"it had to end (stop reason: {reason}); what is printed was known by then\n"


def test_a_run_that_was_stopped_knowing_nothing_says_so(invoke, fake_run):
    fake_run.outcome = Result(None, "time_s", "it had to end", "run-1", 0, 1.0)
    done = invoke("ask", "what?", stdin=b"text")
    assert (done.exit_code, done.stdout) == (4, "")
    assert "nothing was known by then" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("context", "is odd; make it even"), 2),
        (ConfigError("model", "is odd; make it even"), 5),
        (AuthenticationError("m", "the provider wants a key; set X_API_KEY or pass api_key"), 5),
        (LimitReached("cost_usd", "the money is spent; raise limits.cost_usd"), 4),
        (ModelUnavailableError("m", "cannot reach http://x; check api_base and the network"), 1),
        (ClusterError("cannot use Ray at [x]:1 :warning: here"), 1),
        (SandboxError("this kernel has no Landlock; use another"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_sentence_on_stderr_and_its_own_exit_code(invoke, fake_run, error, code):
    fake_run.outcome = error
    done = invoke("ask", "what?", stdin=b"text")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", f"error: {error}\n")


@pytest.mark.parametrize("arguments", [["ask"], ["ask", "q", "--nonsense"], ["aks", "q"], []])
def test_a_wrong_command_line_exits_with_2(invoke, arguments):
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage: " in done.stderr


@pytest.mark.parametrize("command", ["ask", "doctor"])
def test_help_tells_the_exit_codes_and_how_to_set_anything_else(invoke, command):
    shown = " ".join(invoke(command, "--help").stdout.split())
    assert "Exit codes: 0" in shown
    assert "--set NAME=VALUE Any other setting" in shown


@pytest.mark.parametrize("command", ["batch", "map-reduce"])
def test_help_of_what_may_fail_in_parts_tells_the_code_for_that(invoke, command):
    assert "3 some" in " ".join(invoke(command, "--help").stdout.split())


def test_version_is_told_without_starting_anything(invoke):
    done = invoke("--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("rlm-ray 0.")
