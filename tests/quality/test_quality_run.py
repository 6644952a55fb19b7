"""The harness runs on oracles: servers that know a truth, or an untruth, and say it the way the method wants it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
import requests
from quality.endpoint import Endpoint, ModelAddress
from quality.kinds import KINDS
from quality.methods import ask, parse_methods
from quality.run import QualityRun, RunOptions
from quality.task import select_tasks

from rlm_ray.testing import Failure, Hang, ModelServer, Reply
from rlm_ray.testing.responses import is_session

BENCHMARKS = os.path.join(os.path.dirname(__file__), "..", "..", "benchmarks")  # noqa: PTH118, PTH120
TASKS = "needle_single@2k md_port@2k"
RIGHT, WRONG = TASKS.split()


def oracle(request):
    """Right about the first task, wrong about the second."""
    task = next(
        t
        for t in select_tasks(TASKS, KINDS)
        if any(t.question in str(m["content"]) for m in request.messages)
    )
    answer = str(task.truth.value) if task.name == RIGHT else "nonsense"
    if is_session(request):
        return f"```python\nprint(len(context))\nFINAL({answer!r})\n```"
    return Reply(answer, prompt_tokens=100, completion_tokens=5)


def quality(tmp_path, server, methods="direct", tasks=TASKS, **options):
    address = ModelAddress("openai/scripted", server.url, params={"temperature": 0})
    run = QualityRun(
        tmp_path, address, select_tasks(tasks, KINDS), parse_methods(methods), RunOptions(**options)
    )
    run.run()
    return {(cell["task"], cell["method"]): cell for cell in cells(tmp_path)}


def cells(folder):
    return [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]


def test_direct_call_is_right_where_the_oracle_is(tmp_path):
    with ModelServer(oracle) as server:
        found = quality(tmp_path, server)
    assert found[RIGHT, "direct"]["right"] is True
    assert found[WRONG, "direct"]["right"] is False
    assert (found[RIGHT, "direct"]["input_tokens"], found[RIGHT, "direct"]["calls"]) == (100, 1)
    assert "| direct | 1 of 2 |" in (tmp_path / "report.md").read_text()
    assert "1 of 2" in (tmp_path / "plot.svg").read_text()
    assert server.requests[0].body["temperature"] == 0


def test_cell_on_record_is_not_run_again(tmp_path):
    with ModelServer(oracle) as server:
        quality(tmp_path, server)
        quality(tmp_path, server)
        assert server.calls == 2
        quality(tmp_path, server, "direct direct:name=again", is_cached=False)
        assert server.calls == 4
    assert len(cells(tmp_path)) == 4


def test_equal_request_of_another_method_is_answered_from_the_cache(tmp_path):
    with ModelServer(oracle, latency_s=0.05) as server:
        quality(tmp_path, server)
        found = quality(tmp_path, server, "direct:name=again")
        assert server.calls == 2
    assert (found[RIGHT, "again"]["cached"], found[RIGHT, "again"]["input_tokens"]) == (1, 100)
    assert found[RIGHT, "again"]["seconds"] >= 0.05


def test_second_equal_request_of_a_cell_is_another_draw(tmp_path):
    with (
        ModelServer(["one", "two"]) as server,
        Endpoint(ModelAddress("openai/m", server.url), tmp_path) as endpoint,
    ):
        for cell in ("a", "b"):
            url = f"{endpoint.open_cell(cell)}/chat/completions"
            told = [requests.post(url, json={"messages": []}, timeout=30).json() for _ in range(2)]
            assert [each["choices"][0]["message"]["content"] for each in told] == ["one", "two"]
        assert endpoint.usage("b").cached == 2


def test_failed_cell_says_why_and_is_retried_only_if_asked(tmp_path):
    failing = [Failure(500, "the oracle sleeps"), "1", "2"]
    with ModelServer(failing) as server:
        first = quality(tmp_path, server, tasks="md_port@2k")
        assert first[WRONG, "direct"]["status"] == "failed"
        assert first[WRONG, "direct"]["why"] == "the oracle sleeps"
        quality(tmp_path, server, tasks="md_port@2k")
        assert server.calls == 1
        assert (
            quality(tmp_path, server, tasks="md_port@2k", retry_failed=True)[WRONG, "direct"]["status"]
            == "answered"
        )


@pytest.mark.parametrize(
    "said",
    [
        "the request exceeds the available context size, try increasing it",
        "This model's maximum context length is 8192 tokens",
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
def test_context_that_does_not_fit_is_no_failure(tmp_path, said):
    with ModelServer([Failure(400, said)]) as server:
        found = quality(tmp_path, server, tasks="md_port@2k")
    assert found[WRONG, "direct"]["status"] == "too_long"


def test_direct_call_ends_at_the_time_limit(tmp_path):
    with ModelServer([Hang(60)]) as server:
        found = quality(tmp_path, server, tasks="md_port@2k", time_s=0.5)
    assert found[WRONG, "direct"]["status"] == "timeout"


def test_server_that_is_gone_is_a_failed_cell(tmp_path):
    with ModelServer([]) as server:
        pass
    assert quality(tmp_path, server, tasks="md_port@2k")[WRONG, "direct"]["status"] == "failed"


def fake_python(tmp_path, body):
    """An interpreter that does as a worker might."""
    path = tmp_path / "python"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys, time\nasked = json.loads(sys.stdin.readline())\n{body}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("kind", ["ours", "official", "mapreduce"])
@pytest.mark.parametrize(
    "outcome",
    [
        ("raise KeyError('no such thing')", "failed", "KeyError: 'no such thing'"),
        ("os._exit(3)", "failed", "exit 3"),
        ("os.kill(os.getpid(), 9)", "failed", "exit -9"),
        ("open(asked['result'], 'w').write('{')", "failed", "exit 0"),
        ("open(asked['started'], 'w'); time.sleep(60)", "timeout", "0.5 s"),
        (
            "json.dump(dict(answer=None, turns=3, why='time_s: at its end', seconds=1, version='v'), open(asked['result'], 'w'))",
            "none",
            "time_s: at its end",
        ),
    ],
)
def test_method_that_crashes_hangs_or_gives_up_is_a_cell_with_one_line(tmp_path, monkeypatch, kind, outcome):
    body, status, why = outcome
    monkeypatch.setattr("quality.methods._GRACE_S", 0.0)
    python = fake_python(tmp_path, body)
    with ModelServer(oracle) as server:
        found = quality(tmp_path, server, f"{kind}:python={python}:name=it", "md_port@2k", time_s=0.5)
    assert (found[WRONG, "it"]["status"], found[WRONG, "it"]["why"]) == (status, why)


def test_missing_interpreter_is_a_failed_cell(tmp_path):
    with ModelServer(oracle) as server:
        found = quality(tmp_path, server, "ours:python=/nowhere/python", "md_port@2k")
    (cell,) = found.values()
    assert cell["status"] == "failed"
    assert "/nowhere/python" in cell["why"]


def test_worker_sees_the_question_the_settings_and_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user")
    answer = "dict(answer=json.dumps([asked, dict(os.environ)]), turns=1, why='', seconds=1, version='v')"
    python = fake_python(tmp_path, f"json.dump({answer}, open(asked['result'], 'w'))")
    with ModelServer(oracle) as server, Endpoint(ModelAddress("openai/m", server.url)) as endpoint:
        (method,) = parse_methods(f"mapreduce:python={python}:size=2000:profile=cautious:max_depth=2")
        folder = tmp_path / "cell"
        folder.mkdir()
        reply = ask(method, KINDS["md_port"].task("2k"), endpoint, folder, 5.0)
    asked, environment = json.loads(reply.answer)
    assert asked["settings"] == {"profile": "cautious", "max_depth": 2, "map_reduce": {"size": 2000}}
    assert "sk-of-the-user" not in json.dumps(environment)


@pytest.mark.parametrize(
    "text", ["theirs", "ours:max_depth", "ours ours", "direct:name=a ours:name=a", ":name=x"]
)
def test_methods_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=r"method|KEY=VALUE"):
        parse_methods(text)


def test_methods_are_read_with_their_settings():
    one, other = parse_methods("ours:max_depth=2:profile=cautious, ours:name=before:python=/x/bin/python")
    assert (one.name, dict(one.settings)) == (
        "ours:max_depth=2:profile=cautious",
        {"max_depth": 2, "profile": "cautious"},
    )
    assert (other.name, other.python, dict(other.settings)) == ("before", "/x/bin/python", {})


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
def test_worker_ends_with_the_command_and_what_is_done_is_on_record(tmp_path, sent, code):
    python = fake_python(tmp_path, "open('alive', 'w'); sys.stdin.read(); open('ended', 'w')")
    with ModelServer(oracle) as server:
        command = [
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "quality",
            "--model",
            "openai/scripted",
        ]
        command += ["--base", server.url, "--out", str(tmp_path), "--tasks", "md_port@2k"]
        command += ["--methods", f"direct ours:python={python}"]
        environment = {**os.environ, "PYTHONPATH": BENCHMARKS}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            wait_for(lambda: list(tmp_path.glob("work/*/alive")))
            process.send_signal(sent)
            assert process.wait() == code
        wait_for(lambda: list(tmp_path.glob("work/*/ended")))
    assert [cell["method"] for cell in cells(tmp_path)] == ["direct"]


def wait_for(condition):
    """Look until it holds, at most for a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_cost_is_what_tokens_cost_at_the_price_given():
    reply = Reply("x", prompt_tokens=1_000, completion_tokens=100)
    with (
        ModelServer([reply]) as server,
        Endpoint(ModelAddress("openai/m", server.url, price_usd=(2.0, 10.0))) as endpoint,
    ):
        requests.post(f"{endpoint.open_cell('a')}/chat/completions", json={"messages": []}, timeout=30)
        assert endpoint.usage("a").cost_usd == pytest.approx(0.003)


@pytest.mark.ray
def test_command_runs_our_own_methods_and_resumes(tmp_path):
    with ModelServer(oracle) as server:
        command = [
            sys.executable,
            "-m",
            "quality",
            "--model",
            "openai/scripted",
            "--base",
            server.url,
            "--tasks",
            TASKS,
        ]
        command += [
            "--methods",
            "ours:name=ours:max_depth=2 mapreduce",
            "--out",
            str(tmp_path),
            "--time",
            "60",
        ]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": BENCHMARKS}, capture_output=True, text=True, check=True
        )
        found = {(cell["task"], cell["method"]): cell for cell in cells(tmp_path)}
        calls = server.calls
        subprocess.run(command, env={**os.environ, "PYTHONPATH": BENCHMARKS}, capture_output=True, check=True)
        assert server.calls == calls
    for method in ("ours", "mapreduce"):
        assert found[RIGHT, method]["right"] is True, found[RIGHT, method]
        assert found[WRONG, method]["status"] == "answered"
        assert found[WRONG, method]["right"] is False
        assert f"| {method} | 1 of 2 |" in done.stdout
    assert found[RIGHT, "ours"]["turns"] == 1
