"""A Ray that stays between commands: started, found, used without starting anything, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from process_tree import descendants_of, title_of

from rlm_ray.cluster import local_cluster
from rlm_ray.cluster.local_cluster import _write_note, end_keeper, find_keeper
from rlm_ray.cluster.ray_init import LOCAL, NOTE_FILE, resolve_address
from rlm_ray.errors import ClusterError
from rlm_ray.util.process_stat import read_process_stat


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ray's folder of a machine on which nothing runs."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray"


def note_of(pid, started=None):
    return f"127.0.0.1:1 {pid} {started or read_process_stat(pid).started}"


def test_a_keeper_that_runs_is_found_by_its_note(folder):
    (folder / NOTE_FILE).write_text(note_of(os.getpid()))
    found = find_keeper()
    assert (found.address, found.pid) == ("127.0.0.1:1", os.getpid())


def test_of_two_that_start_at_once_the_second_says_so_and_takes_nothing_from_the_first(folder):
    assert _write_note("127.0.0.1:1") == folder / NOTE_FILE
    with pytest.raises(ClusterError, match=r"a cluster is up at 127\.0\.0\.1:1 already"):
        _write_note("127.0.0.1:2")
    assert find_keeper().address == "127.0.0.1:1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "127.0.0.1:1",
        "127.0.0.1:1 x y",
        note_of(1, "7"),
        "127.0.0.1:1 999999999 5",
        "\x00",
        "1 2 3 4",
        "é " * 3,
    ],
)
def test_a_note_of_no_process_that_runs_is_no_keeper(folder, text):
    (folder / NOTE_FILE).write_text(text)
    assert find_keeper() is None
    assert end_keeper() is False
    assert resolve_address("") == LOCAL


def test_a_note_that_somebody_else_wrote_is_not_believed(folder, monkeypatch):
    (folder / NOTE_FILE).write_text(note_of(os.getpid()))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert find_keeper() is None
    assert end_keeper() is False


def rlm_ray(*arguments):
    """Run a command beside the suite's Ray, in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "rlm_ray", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def actors_below(pid):
    """The session actors of a keeper, by the titles of the processes below it."""
    return [below for below in descendants_of(pid) if title_of(below).startswith(b"ray::SessionActor")]


@pytest.mark.ray
@pytest.mark.timeout(300)  # it starts Ray and four commands
def test_a_question_between_up_and_down_is_answered_by_the_actor_that_is_ready(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="up-") as folder:  # Ray's sockets need a short path
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RLM_RAY_RUN_DIR", f"{folder}/runs")
        book = Path(folder, "book.txt")
        book.write_text("The whale swam. " * 2_000 + "Ahab was the captain.")
        try:
            code, _, said = rlm_ray("up", "--set", "cluster.max_actors=1")
            assert (code, find_keeper() is not None) == (0, True), said
            keeper = find_keeper()
            ready = actors_below(keeper.pid)
            code, answer, said = rlm_ray("ask", "Who was the captain?", str(book))
            assert (code, "Ahab was the captain" in answer) == (0, True), said
            assert actors_below(keeper.pid) == ready
            assert len(ready) == 1
            assert rlm_ray("up")[0] == 0
        finally:
            assert rlm_ray("down") == (0, "", "ended\n")
        assert find_keeper() is None
        assert not local_cluster._is_alive(keeper.pid, keeper.started)
        assert rlm_ray("down") == (0, "", "no cluster is up\n")
