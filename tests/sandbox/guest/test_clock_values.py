"""The clock of a REPL: a microsecond more with each look, the same in every run of a cell."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from rlm_ray.sandbox.guest.clock import Clock, datetime_names, time_names

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
