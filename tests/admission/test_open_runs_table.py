"""The table of open runs by itself, messages by their parts, and a client's share of a run."""

from __future__ import annotations

import pytest

from rlm_ray.admission.degraded_mode import RunReplica
from rlm_ray.admission.open_runs import MAX_CLOSED, OpenRuns
from rlm_ray.admission.protocol import (
    BudgetShare,
    ClientMessage,
    Resume,
    RunPolicy,
    Settle,
)
from rlm_ray.core.limits import Amount
from rlm_ray.core.retry_after import RateLimitHeaders, parse_rate_limit_headers

RUN = RunPolicy("r")


def test_run_without_a_driver_is_abandoned_after_its_time():
    runs = OpenRuns()
    assert runs.open(RUN, 10.0) is not None
    assert (runs.abandoned(69.9), runs.abandoned(70.0)) == ([], ["r"])
    runs.hold("r")
    runs.hold("r")
    assert runs.abandoned(1e9) == []
    runs.leave("r", 100.0)
    assert runs.abandoned(1e9) == []
    runs.leave("r", 200.0)
    assert (runs.abandoned(259.9), runs.abandoned(260.0)) == ([], ["r"])
    assert runs.stats() == {"runs": 1, "drivers": 0, "driverless": 1}


def test_run_that_is_held_before_it_opens_has_its_driver():
    runs = OpenRuns()
    runs.hold("r")
    assert runs.stats() == {"runs": 0, "drivers": 1, "driverless": 0}
    assert (runs.is_held("r"), runs.is_held("s")) == (True, False)
    runs.open(RUN, 10.0)
    assert (runs.abandoned(1e9), len(runs), list(runs), "r" in runs, "s" in runs) == (
        [],
        1,
        ["r"],
        True,
        False,
    )
    assert runs["r"] is runs.get("r")
    assert runs.get("s") is None


def test_closed_run_opens_again_by_open_alone():
    runs = OpenRuns()
    first = runs.open(RUN, 1.0)
    assert runs.open(RUN, 2.0) is None
    assert runs.reopen(RUN, 2.0) is None
    assert (runs.close("r"), runs.close("r"), runs.is_closed("r")) == (first, None, True)
    assert runs.reopen(RUN, 3.0) is None
    assert (runs.abandoned(1e9), len(runs)) == ([], 0)
    assert runs.open(RUN, 4.0) is not None
    assert not runs.is_closed("r")
    assert runs.reopen(RunPolicy("s"), 5.0) is not None


def test_driver_that_leaves_a_closed_run_leaves_nothing():
    runs = OpenRuns()
    runs.hold("r")
    runs.open(RUN, 1.0)
    runs.close("r")
    runs.leave("r", 2.0)
    assert (runs.abandoned(1e9), runs.stats()) == ([], {"runs": 0, "drivers": 0, "driverless": 0})


def test_oldest_of_too_many_closed_runs_is_forgotten():
    runs = OpenRuns()
    for number in range(MAX_CLOSED + 1):
        runs.close(str(number))
    assert [runs.is_closed(str(number)) for number in (0, 1, MAX_CLOSED)] == [False, True, True]


def test_message_is_split_into_one_thing_each_what_is_known_first():
    settles, resume = (Settle("p", "ok"), Settle("q", "ok")), Resume()
    message = ClientMessage("h", "e", ("ask",), settles, ("c", "d"), resume, long_poll=True)
    assert message.parts() == [
        ClientMessage("h", "e", resume=resume), ClientMessage("h", "e", settles=settles[:1]), ClientMessage("h", "e", settles=settles[1:]),
        ClientMessage("h", "e", cancelled=("c",)), ClientMessage("h", "e", cancelled=("d",)), ClientMessage("h", "e", asks=("ask",)),
    ]  # fmt: skip
    assert ClientMessage("h", None).parts() == []


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None), ({"x-other": "1"}, None), ({"x-ratelimit-limit-requests": "0"}, None), ({"x-ratelimit-limit-requests": "60"}, RateLimitHeaders({"requests": 60.0})),
        ({"x-ratelimit-limit-tokens": "many", "retry-after": "2"}, RateLimitHeaders({}, None, 2.0)),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, "tokens"),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-limit-requests": "5"}, RateLimitHeaders({"requests": 5.0})),
        ({"x-ratelimit-remaining-requests": "0"}, "requests"),
    ],
)  # fmt: skip
def test_headers_say_limits_and_what_is_used_up(headers, found):
    said = parse_rate_limit_headers(headers, 1_800_000_000.0)
    if isinstance(found, str):
        assert (said.exhausted_resource, said.limits) == (found, {})
    else:
        assert said == found


def test_replica_knows_the_age_and_the_share_of_its_run():
    replica = RunReplica(RunPolicy("r", age_s=5.0), 100.0)
    assert (replica.snapshot(103.0).policy.age_s, replica.spent) == (8.0, Amount())
    replica.update_share(BudgetShare("r", Amount(1, 2, 3), Amount(10, 20, 30)))
    assert (replica.spent, replica.snapshot(103.0).known_spent) == (Amount(1, 2, 3), Amount(1, 2, 3))
