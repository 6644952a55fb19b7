"""The clock of a REPL: a microsecond more with each look, the same in every run of a cell."""

from __future__ import annotations

import datetime as dt
import signal
import sys
import time
from contextlib import nullcontext

import pytest

from rlm_ray.sandbox.guest import clock as clock_module
from rlm_ray.sandbox.guest.clock import CellTimeout, CellTimer, Clock, datetime_names, time_names

NOON = 1_800_000_000.0


@pytest.fixture
def clock():
    clock = Clock()
    clock.start(NOON)
    return clock


def test_each_look_is_a_microsecond_later(clock):
    assert [clock.process_time() for _ in range(3)] == pytest.approx([0.0, 1e-6, 2e-6])
    assert clock.time() == pytest.approx(NOON + 3e-6, abs=2e-7)
    assert clock.time_ns() == 1_800_000_000_000_004_000
    clock.start(NOON + 60)
    assert clock.process_time() == 0.0
    assert clock.time_ns() == 1_800_000_060_000_001_000


@pytest.mark.parametrize("name", ["time", "monotonic", "perf_counter"])
def test_clocks_in_seconds_begin_at_the_cell(clock, name):
    assert time_names(clock)[name]() == NOON


@pytest.mark.parametrize("name", ["time_ns", "monotonic_ns", "perf_counter_ns"])
def test_clocks_in_nanoseconds_begin_at_the_cell(clock, name):
    assert time_names(clock)[name]() == 1_800_000_000_000_000_000


@pytest.mark.parametrize("name", ["gmtime", "ctime"])
def test_moments_are_that_of_the_cell_unless_one_is_given(clock, name):
    ours, native = time_names(clock)[name], getattr(time, name)
    assert ours() == ours(None) == native(NOON)
    assert ours(0) == native(0)


def test_written_moments_are_that_of_the_cell_unless_one_is_given(clock):
    names = time_names(clock)
    assert names["asctime"]() == "Fri Jan 15 08:00:00 2027"
    assert names["asctime"](time.gmtime(0)) == "Thu Jan  1 00:00:00 1970"
    assert names["strftime"]("%Y-%m-%d %H") == "2027-01-15 08"
    assert names["strftime"]("%Y", time.gmtime(0)) == "1970"


def test_dates_are_those_of_the_cell_and_look_like_the_originals(clock):
    names = datetime_names(clock)
    date, datetime = names["date"], names["datetime"]
    assert datetime.now(dt.UTC).isoformat(timespec="seconds") == "2027-01-15T08:00:00+00:00"
    assert datetime.utcnow().tzinfo is None
    assert datetime.utcnow().hour == 8
    assert datetime.today().year == date.today().year == 2027
    assert type(datetime.now().date()) is date
    assert repr(date(2027, 1, 2)) == "datetime.date(2027, 1, 2)"
    assert repr(datetime(2027, 1, 2, 3)) == "datetime.datetime(2027, 1, 2, 3, 0)"
    assert (date.__name__, date.__module__, datetime.__qualname__) == ("date", "datetime", "datetime")
    assert (date.min, date.max, datetime.max) == (
        dt.date.min,
        dt.date.max,
        dt.datetime.max,  # noqa: DTZ901
    )


def test_originals_count_as_instances(clock):
    names = datetime_names(clock)
    date, datetime = names["date"], names["datetime"]
    assert isinstance(dt.date(2027, 1, 1), date)
    assert isinstance(dt.datetime(2027, 1, 1, tzinfo=dt.UTC), datetime)
    assert not isinstance(dt.date(2027, 1, 1), datetime)
    assert not isinstance(5, date)
    assert issubclass(dt.datetime, date)
    assert not issubclass(int, date)

    class Mine(date):
        pass

    assert repr(Mine(2027, 1, 1)) == "Mine(2027, 1, 1)"
    assert isinstance(Mine(2027, 1, 1), Mine)
    assert not isinstance(dt.date(2027, 1, 1), Mine)
    assert not issubclass(dt.date, Mine)


class Alarms(dict):
    """What is set, by the kind of timer."""

    left_s = 0.0
    """Of the timer before."""


@pytest.fixture
def alarms(monkeypatch):
    found = Alarms()

    def set_(kind, seconds, repeat_s=0.0):
        found[kind] = (seconds, repeat_s)
        return found.left_s, repeat_s

    monkeypatch.setattr(
        clock_module.signal, "signal", lambda number, handler: found.update({number: handler})
    )
    monkeypatch.setattr(clock_module.signal, "setitimer", set_)
    return found


def test_limits_of_a_cell_are_timers_of_the_process(alarms):
    timer = CellTimer(30.0, 20.0, 5.0)
    timer.install()
    assert set(alarms) == {signal.SIGALRM, signal.SIGPROF}
    timer.start()
    wall, cpu, hard = (
        alarms[kind] for kind in (signal.ITIMER_REAL, signal.ITIMER_PROF, signal.ITIMER_VIRTUAL)
    )
    assert (wall[0], cpu[0], hard) == (30.0, 20.0, (25.0, 0.0))
    assert 0 < wall[1] == cpu[1] < 1  # raised again and again, where it is swallowed
    timer.stop()
    assert {alarms[kind][0] for kind in (signal.ITIMER_REAL, signal.ITIMER_PROF, signal.ITIMER_VIRTUAL)} == {
        0
    }


@pytest.mark.parametrize(("left_s", "goes_on_s"), [(0.25, 0.25), (0.0, 0.001)])  # a timer of 0 s never rings
@pytest.mark.parametrize("failure", [None, LookupError])
def test_wall_clock_goes_on_with_what_was_left_of_it(alarms, left_s, goes_on_s, failure):
    alarms.left_s = left_s
    with pytest.raises(failure) if failure else nullcontext(), CellTimer(30.0, 20.0, 5.0).stopped_clock():
        assert alarms == {signal.ITIMER_REAL: (0, 0.0)}
        if failure:
            raise failure
    assert alarms[signal.ITIMER_REAL][0] == goes_on_s
    assert alarms[signal.ITIMER_REAL][1] > 0


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("_on_wall_clock", "the cell ran longer than 30 s (sub-calls not counted)"),
        ("_on_processor_time", "the cell used more than 20 s of processor time"),
    ],
)
def test_only_code_of_the_model_is_interrupted_and_no_frame_that_is_under_way(name, why):
    timer = CellTimer(30.0, 20.0, 5.0)
    ring = getattr(timer, name)
    ring(0, None)
    timer.check()
    timer.interruptible = True
    with timer.uninterrupted():
        with timer.uninterrupted():
            ring(0, None)
        ring(0, None)
        with pytest.raises(LookupError), timer.uninterrupted():
            raise LookupError
        ring(0, None)
    with pytest.raises(CellTimeout) as raised:
        ring(0, sys._getframe())
    assert str(raised.value) == why
    here = raised.value.places[-1]
    assert (here[0], here[1]) == (
        __file__,
        test_only_code_of_the_model_is_interrupted_and_no_frame_that_is_under_way.__name__,
    )
    assert len(raised.value.places) > 3
    timer.interruptible = False
    ring(0, None)
    with pytest.raises(CellTimeout) as again:
        timer.check()
    timer.interruptible = True
    with pytest.raises(CellTimeout) as third:
        ring(0, None)
    assert raised.value is again.value is third.value


def test_the_next_cell_has_all_its_time(alarms):
    timer = CellTimer(30.0, 20.0, 5.0)
    timer.interruptible = True
    with pytest.raises(CellTimeout):
        timer._on_wall_clock(0, None)
    timer.start()
    timer.check()
