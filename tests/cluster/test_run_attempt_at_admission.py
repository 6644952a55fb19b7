"""A run attempt holds its run at the admission and closes it there, whatever ends it and however often."""

import asyncio

import pytest

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.protocol import RunPolicy
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.cluster.run_attempt import CLOSE_S, held_at_admission

POLICY = RunPolicy("run", attempt=1.0)


class Admission(AdmissionServer):
    """An admission that answers after a moment, or not at all."""

    def __init__(self, delay_s=0.1, error=None):
        super().__init__(AdmissionController(), "epoch")
        self.delay_s, self.error = delay_s, error

    async def close_run(self, run_id, attempt):
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        return await super().close_run(run_id, attempt)

    async def counts(self):
        stats = await self.stats()
        return stats["runs"], stats["drivers"], stats["driverless"]


async def attempt(admission, begun, ends):
    async with held_at_admission(admission, POLICY):
        await asyncio.sleep(0)
        await admission.open_run(POLICY)
        begun.set()
        await ends.wait()
        raise ValueError("the run fails")


@pytest.mark.parametrize("cancels", [0, 1, 2, 3])
async def test_run_is_closed_and_left_however_often_the_attempt_is_cancelled(cancels):
    admission, begun, ends = Admission(), asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(attempt(admission, begun, ends))
    await begun.wait()
    assert await admission.counts() == (1, 1, 0)
    if not cancels:
        ends.set()
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0.01)
    (error,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(error, asyncio.CancelledError if cancels else ValueError)
    while await admission.counts() != (0, 0, 0):  # noqa: ASYNC110 - of a task that nobody holds any more
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("delay_s", "error"), [(0.0, ConnectionError("is gone")), (1e6, None)])
async def test_an_admission_that_cannot_be_told_takes_nothing_from_the_answer(monkeypatch, delay_s, error):
    monkeypatch.setattr("rlm_ray.cluster.run_attempt.CLOSE_S", CLOSE_S / 100)
    admission = Admission(delay_s, error)
    async with held_at_admission(admission, POLICY):
        await asyncio.sleep(0)
        await admission.open_run(POLICY)
    await asyncio.sleep(0)
    assert await admission.counts() == (1, 0, 1)  # it finds out by itself


async def test_an_open_that_the_end_of_its_attempt_has_overtaken_opens_nothing():
    admission = Admission(0.0)
    async with held_at_admission(admission, POLICY):
        await asyncio.sleep(0)  # its session is about to open the run when the attempt is cancelled
    await admission.open_run(POLICY)
    assert (await admission.counts())[0] == 0
    await admission.open_run(RunPolicy("run", attempt=2.0))
    assert (await admission.counts())[0] == 1
