"""Nothing at the admission grows for ever: who is gone without a word is forgotten, with what it held."""

import asyncio

import pytest

from rlm_ray.admission.controller import IDLE_ACCOUNT_S, SPARE_DEADLINES, AdmissionController
from rlm_ray.admission.open_runs import DRIVERLESS_S
from rlm_ray.admission.protocol import ClientMessage, PermitRequest, Resume, RunPolicy, RunSnapshot
from rlm_ray.admission.server import SILENT_S, SWEEP_INTERVAL_S, AdmissionServer
from rlm_ray.core.limits import Limits, Rates


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def shell_and_clock():
    clock = Clock()
    return AdmissionServer(AdmissionController(), "epoch", clock=clock, hold_s=0.01), clock


async def held(shell, run_id="run"):
    """Hold the run as its driver does."""
    driver = asyncio.create_task(shell.hold_run(run_id))
    await asyncio.sleep(0)
    return driver


def ask(holder, request_id="t", account="account", run="run"):
    return ClientMessage(
        holder, "epoch", (PermitRequest(run, account, "m", 1, 1, request_id=request_id, client_id=holder),)
    )


async def test_a_client_that_fell_silent_gives_its_permits_back_to_the_others():
    shell, clock = shell_and_clock()
    await shell.open_run(RunPolicy("run", rates=Rates(in_flight=1)))
    assert (await shell.exchange(ask("dead", "a"))).verdicts
    assert not (await shell.exchange(ask("alive", "b"))).verdicts
    for _ in range(8):
        clock.now += SILENT_S / 8
        verdicts = (await shell.exchange(ClientMessage("alive", "epoch"))).verdicts
        if verdicts:
            break
    clock.now += 0.5
    assert verdicts or (await shell.exchange(ClientMessage("alive", "epoch"))).verdicts
    assert (await shell.stats())["holders"] == 1


async def test_a_client_that_waits_at_the_admission_is_not_silent():
    shell, clock = shell_and_clock()
    shell._hold_s = 60
    await shell.open_run(RunPolicy("run", rates=Rates(in_flight=1)))
    await shell.exchange(ask("first", "a"))
    waiting = asyncio.create_task(
        shell.exchange(ClientMessage("second", "epoch", ask("second", "b").asks, long_poll=True))
    )
    await asyncio.sleep(0)
    for _ in range(10):
        clock.now += SILENT_S / 2
        await shell.exchange(ClientMessage("first", "epoch"))
    assert (await shell.stats())["holders"] == 2
    waiting.cancel()


async def test_the_clients_of_many_drivers_that_were_killed_are_forgotten():
    shell, clock = shell_and_clock()
    driver = await held(shell)
    await shell.open_run(RunPolicy("run"))
    for number in range(500):
        await shell.exchange(ask(f"actor {number}", f"t{number}"))
        clock.now += 20
    assert (await shell.stats())["holders"] <= 5
    assert (await shell.stats())["permits"] <= 5
    driver.cancel()


async def test_the_run_of_a_driver_that_is_gone_is_closed():
    shell, clock = shell_and_clock()
    driver = await held(shell)
    await shell.open_run(RunPolicy("run"))
    clock.now += 10 * DRIVERLESS_S
    assert (await shell.stats())["runs"] == 1
    driver.cancel()
    await asyncio.gather(driver, return_exceptions=True)
    clock.now += DRIVERLESS_S - 1
    assert (await shell.stats())["runs"] == 1
    clock.now += 20
    census = await shell.stats()
    assert (census["runs"], census["drivers"], census["driverless"]) == (0, 0, 0)


@pytest.mark.parametrize("opened_by", ["root", "session", "client of an earlier admission"])
async def test_a_run_that_no_driver_ever_held_is_closed_and_its_requests_are_refused(opened_by):
    shell, clock = shell_and_clock()
    match opened_by:
        case "root":
            await shell.open_run(RunPolicy("run", rates=Rates(in_flight=1)))
        case "session":
            assert await shell.open_sessions(RunPolicy("run", rates=Rates(in_flight=1))) is None
        case _:
            resume = Resume((RunSnapshot(RunPolicy("run", rates=Rates(in_flight=1))),))
            await shell.exchange(ClientMessage("client", "epoch", resume=resume))
    assert (await shell.exchange(ask("client", "a"))).verdicts
    asked = ask("client", "b").asks
    waiting = asyncio.create_task(
        shell.exchange(ClientMessage("client", "epoch", asks=asked, long_poll=True))
    )
    shell._hold_s = 60
    await asyncio.sleep(0)
    clock.now += DRIVERLESS_S + SWEEP_INTERVAL_S
    census = await shell.stats()
    assert (census["runs"], census["driverless"]) == (0, 0)
    assert [verdict.reason for verdict in (await waiting).verdicts] == ["closed"]


async def test_a_driver_whose_connection_only_broke_keeps_its_run():
    shell, clock = shell_and_clock()
    await shell.open_run(RunPolicy("run"))
    for _ in range(3):
        driver = await held(shell)
        clock.now += 10 * DRIVERLESS_S
        driver.cancel()
        await asyncio.gather(driver, return_exceptions=True)
        clock.now += DRIVERLESS_S - 1
        assert (await shell.stats())["runs"] == 1


async def test_an_account_that_no_run_uses_is_forgotten_after_a_while():
    shell, clock = shell_and_clock()
    for number in range(100):
        await shell.open_run(RunPolicy(f"run {number}"))
        await shell.exchange(ask("holder", f"t{number}", f"account {number}", f"run {number}"))
        await shell.exchange(ClientMessage("holder", "epoch", cancelled=(f"t{number}",)))
        await shell.close_run(f"run {number}", 0.0)
    assert (await shell.stats())["accounts"] == 100
    clock.now += IDLE_ACCOUNT_S
    assert (await shell.stats())["accounts"] == 0


async def test_an_account_in_use_is_kept_however_long():
    shell, clock = shell_and_clock()
    driver = await held(shell)
    await shell.open_run(RunPolicy("run"))
    await shell.exchange(ask("holder"))
    clock.now += 10 * IDLE_ACCOUNT_S
    assert (await shell.stats())["accounts"] == 1
    driver.cancel()


def test_the_deadlines_of_closed_runs_are_cleared_away():
    admission = AdmissionController()
    for number in range(5_000):
        admission.open_run(RunPolicy(str(number), Limits(time_s=1e7)), 0.0)
        admission.close_run(str(number))
    assert admission.stats()["deadlines"] <= SPARE_DEADLINES + 1


async def test_who_asks_hears_which_runs_have_no_driver():
    shell, _ = shell_and_clock()
    driver = await held(shell, "held")
    await shell.open_run(RunPolicy("open"))
    assert await shell.driverless(("held", "open", "unknown")) == ("open", "unknown")
    driver.cancel()
    await asyncio.wait([driver])
    assert await shell.driverless(("held",)) == ("held",)
