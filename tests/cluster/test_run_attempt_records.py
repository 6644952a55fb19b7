"""Records that come twice are heard once; the status is told as long as the run goes on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.cluster import run_attempt
from rlm_ray.cluster.detached_actor import RETRY_S
from rlm_ray.cluster.run_attempt import (
    STATUS_S,
    RecordDeduplicator,
    RunSpec,
    _hold,
    _open_journal,
    _RecordFeed,
)
from rlm_ray.config import Settings
from rlm_ray.core.context import make_context
from rlm_ray.errors import ClusterError, JournalError
from rlm_ray.journal.server import IN_MEMORY


def test_what_is_sent_again_is_known_and_recorders_do_not_mix():
    once = RecordDeduplicator()
    first = ["a:1", "a:2", "b:1", "a:3", "b:2"]
    assert [once(ident) for ident in first] == [True] * 5
    assert [once(ident) for ident in ["a:2", "a:3", "b:2", "a:4"]] == [False, False, False, True]


def test_a_record_without_a_number_is_always_new():
    once = RecordDeduplicator()
    assert [once(ident) for ident in ("", "", "x")] == [True] * 3


class Watcher:
    def __init__(self):
        self.heard = []

    def add(self, record):
        raise AssertionError("no record has come")

    def status(self, status):
        self.heard.append(status.in_flight)


def test_the_status_is_told_again_when_the_admission_is_back():
    answers = iter(
        [RunStatus(1), ClusterError("the admission of the cluster does not answer"), None, RunStatus(2)]
    )

    class Admission:
        async def status(self, run_id):
            answer = next(answers)
            if isinstance(answer, ClusterError):
                raise answer
            return answer

    watcher = Watcher()
    feed = _RecordFeed(SimpleNamespace(admission=Admission()), None, 0, [watcher], "run")

    async def watch():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.5 * STATUS_S):
                await feed._tell_status()

    in_virtual_time(watch())
    assert watcher.heard == [1, 2]


def test_a_run_is_held_again_until_it_is_closed():
    errors = [JournalError("run", "cannot be recorded"), ConnectionError("broke")]
    tries = []

    async def hold():
        tries.append(asyncio.get_running_loop().time())
        if errors:
            raise errors.pop()
        await asyncio.sleep(100)  # then it is closed

    assert in_virtual_time(_hold(hold)) == 100 + 2 * RETRY_S
    assert tries == [0, RETRY_S, 2 * RETRY_S]


@pytest.mark.parametrize(
    ("run_dir", "on_error", "watched", "opened"),
    [
        ("/good", "stop", True, ["/good"]),
        ("/bad", "continue", True, ["/bad", IN_MEMORY]),
        ("/bad", "continue", False, ["/bad", None]),
        ("/bad", "stop", True, ["/bad", JournalError]),
        ("", "stop", True, [IN_MEMORY]),
        ("", "stop", False, [None]),
    ],
)
async def test_observers_hear_of_a_run_also_where_its_folder_cannot_be_written(
    monkeypatch, run_dir, on_error, watched, opened
):
    tried = []

    class Journal:
        async def open(self, ref):
            tried.append(ref.run_dir)
            if ref.run_dir == "/bad":
                raise JournalError("run", "the disk is full")
            return 7

    monkeypatch.setattr(run_attempt, "current_node_id", lambda: "node")
    settings = Settings(model="m", run_dir=run_dir, on_journal_error=on_error)
    spec = RunSpec("run", settings, "q", make_context(""), {})
    try:
        ref, offset = await _open_journal(SimpleNamespace(journal=Journal()), spec, watched=watched)
    except JournalError:
        tried.append(JournalError)
    else:
        assert (ref is None, offset) in {(True, 0), (False, 7)}
        tried += [None] if ref is None else []
        assert ref is None or ref.run_dir == tried[-1]
    assert tried == opened
