"""`rlm-ray` as people run it: a process with a terminal's pipes. One Ray cluster serves all but the last test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from rlm_ray import RLM, Cluster
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import is_session, recursion, run_query

pytestmark = pytest.mark.ray

PROGRESS = re.compile(r"\d\d:\d\d:\d\d ")
"""How a line of the live view begins where there is no terminal; a slow machine may show some."""
BEFORE = re.compile(r"read \d+ files? \(|\S+ tokens of context; ")
HERE = ["--set", "cluster.cpus_per_actor=0"]
"""Actors take no CPU of a cluster whose CPUs another test may hold."""


@pytest.fixture(scope="module")
def ray_address():
    """A cluster that the commands find running, and must leave running."""
    import ray
    from beside_others import usual_port_left_free

    with usual_port_left_free():
        RLM(cluster=Cluster(min_actors=1, cpus_per_actor=0.1)).prewarm()
    yield ray.get_runtime_context().gcs_address
    assert ray.cluster_resources()["CPU"] >= 1


@pytest.fixture
def here(rlm_ray, ray_address):
    def run(*arguments, **settings):
        settings.setdefault("RLM_RAY_DIRECT_CALL_BELOW_CHARS", "0")
        return rlm_ray(*arguments, *HERE, RAY_ADDRESS=ray_address, **settings)

    return run


def said(stderr):
    """The lines of stderr but for the live view, and for what is read and what it may cost."""
    return [line for line in stderr.splitlines() if not PROGRESS.match(line) and not BEFORE.match(line)]


def test_a_folder_is_asked_about_with_sub_calls_and_json(here, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"text {number} " * 100)
    query = run_query("answers = recursive_map('what?', context)\nprint(answers)")
    with ModelServer(recursion) as server:
        done = here(
            "ask", query, ".", "--json", "--model", "openai/m", "--api-base", server.url, "--api-key", "k"
        )
        assert sum(not is_session(request) for request in server.requests) == 3
    assert (done.returncode, said(done.stderr)) == (0, [])
    assert "read 3 files (3 text), 2,100 characters" in done.stderr
    result = json.loads(done.stdout)
    assert (result["answer"], result["stop_reason"], result["turns"]) == ("session done", "answered", 2)


def test_a_limit_exits_with_4_and_prints_the_best_answer(here):
    def script(request):
        return "best so far" if "has to end now" in request.last else "```python\nprint(len(context))\n```"

    with ModelServer(script) as server:
        options = ["--model", "openai/m", "--api-base", server.url, "--api-key", "k", "--max-iterations", "2"]
        done = here("ask", "what?", "-", *options, stdin="some text")
    assert (done.returncode, done.stdout) == (4, "best so far\n")
    why, _ = said(done.stderr)
    assert why.startswith("the model did not finish within 2 turns; raise max_iterations")


def test_a_missing_key_exits_with_5_and_names_the_variable(here):
    done = here("ask", "what?", "-", "--model", "openai/gpt-5", stdin="some text")
    assert (done.returncode, done.stdout) == (5, "")
    (line,) = said(done.stderr)
    assert "the provider wants a key; set OPENAI_API_KEY" in line


def test_an_unreachable_server_exits_with_1_and_names_the_address(here):
    options = [
        "--model",
        "openai/m",
        "--api-base",
        "http://127.0.0.1:9/v1",
        "--api-key",
        "k",
        "--set",
        "max_attempts=1",
    ]
    done = here("ask", "what?", "-", *options, stdin="some text")
    assert (done.returncode, done.stdout) == (1, "")
    resumable, line = said(done.stderr)
    assert "go on later with: rlm-ray resume" in resumable
    assert "cannot reach http://127.0.0.1:9/v1; check api_base and the network" in line


def test_a_batch_that_a_limit_stopped_goes_on_by_the_command_that_it_prints(here, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(6)))
    runs = ["--set", f"run_dir={tmp_path / 'runs'}"]
    with ModelServer(lambda request: "yes") as server:
        model = ["--model", "openai/m", "--api-base", server.url, "--api-key", "k", "--set", "max_depth=0"]
        stopped = here(
            "batch", "What?", "rows.jsonl", "--out", "out.jsonl", *model, *runs, "--set", "limits.calls=2"
        )
        assert stopped.returncode == 4, stopped.stderr
        (command,) = re.findall(r"or rlm-ray (resume .+ --trust-record) \(give", stopped.stderr)
        more = [*runs, "--api-key", "k", "--set", "limits.calls=100"]
        done = here(*command.split(), *more)
        assert (done.returncode, done.stdout) == (0, "out.jsonl\n"), done.stderr
        assert len(server.requests) == 6
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6


def test_doctor_finds_a_healthy_machine_healthy(here, ray_address):
    done = here("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.split(":")[0] for line in done.stdout.splitlines()]
    names = [
        "Python",
        "kernel seccomp",
        "kernel Landlock",
        "privileges",
        "sandbox",
        "Ray",
        "key of offline/extractive",
        "model",
        "window of offline/extractive",
    ]
    assert found == [f"ok    {name}" for name in names]
    assert ray_address in done.stdout


def test_doctor_goes_on_after_what_it_finds_wrong(here):
    done = here("doctor", "--model", "openai/gpt-5")
    assert (done.returncode, done.stderr) == (5, "")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert ["OPENAI_API_KEY" in line for line in failed] == [True, True]


def test_a_pipe_through_a_ray_of_its_own_needs_no_key_and_leaves_no_process(tmp_path):
    text = "The creature learned to speak by listening to the cottagers. Nothing else is said here. " * 50
    command = [sys.executable, "-m", "rlm_ray", "ask", "How did the creature learn to speak?"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    out, err = process.communicate(text, timeout=90)
    assert (process.returncode, said(err)) == (0, [])
    assert "by listening to the cottagers" in out
    deadline = time.monotonic() + 5
    while living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(process.pid) == []


def living(session):
    """Processes of a session that still run; those that only wait to be reaped do not."""
    rows = subprocess.run(["ps", "-eo", "sid,stat,args"], capture_output=True, text=True, check=True).stdout
    fields = [row.split(maxsplit=2) for row in rows.splitlines()[1:]]
    return [row for row in fields if row[0] == str(session) and not row[1].startswith("Z")]
