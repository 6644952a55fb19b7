"""Records that come twice are heard once; the status is told as long as the run goes on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from virtual_time import in_virtual_time

from rlm_ray.admission.protocol import RunStatus
from rlm_ray.cluster.run_attempt import STATUS_S, RecordDeduplicator, _RecordFeed
from rlm_ray.errors import ClusterError


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
