"""Every open run is its drivers': with the last of them gone it is closed, whoever opened it and in whatever order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.controller import AdmissionController
from rlm_ray.admission.open_runs import DRIVERLESS_S, MAX_CLOSED, OpenRuns
from rlm_ray.admission.protocol import PermitRequest, Refused, Resume, RunPolicy, RunSnapshot
from rlm_ray.core.limits import Limits

POLICY = RunPolicy("run", Limits(calls=10))


class Life:
    """One run at one admission, whose clock is virtual."""

    def __init__(self):
        self.admission = AdmissionController()
        self.now = 0.0
        self.drivers = 0
        self.attempt = 1.0

    def play(self, event):
        if isinstance(event, (int, float)):
            self.now += event
        else:
            late = event.startswith("late ")  # of the attempt before
            self.tell(event.removeprefix("late "), replace(POLICY, attempt=self.attempt - late))
        self.admission.decisions(self.now)
        self.admission.close_abandoned_runs(self.now)

    def tell(self, event, policy):
        admission = self.admission
        match event:
            case "again":
                self.attempt += 1
            case "open":
                admission.open_run(policy, self.now)
            case "hold":
                self.drivers += 1
                admission.hold_run("run")
            case "leave" if self.drivers:
                self.drivers -= 1
                admission.leave_run("run", self.now)
            case "close":
                admission.close_run("run", policy.attempt)
            case "sessions":
                admission.open_sessions(policy, 1, self.now)
            case "restore":
                admission.restore("client", Resume((RunSnapshot(policy),)), self.now)
            case "ask":
                admission.request(PermitRequest("run", "account", "m", 1, 1, request_id="t"), self.now)

    @property
    def is_open(self):
        return self.admission.stats()["runs"] == 1


def after(*events):
    life = Life()
    for event in events:
        life.play(event)
    return life


NEARLY = DRIVERLESS_S - 1


@pytest.mark.parametrize(
    ("events", "is_open"),
    [
        (["open"], True),
        (["open", NEARLY], True),
        (["open", NEARLY, 1], False),  # opened, never held
        (["sessions", NEARLY, 1], False),
        (["restore", NEARLY, 1], False),
        (["hold", "open", 1e6], True),
        (["open", "hold", 1e6], True),
        (["open", NEARLY, "hold", 1e6], True),
        (["hold", "open", 1e6, "leave"], True),
        (["hold", "open", 1e6, "leave", NEARLY, 1], False),  # its driver dies
        (["hold", "leave", "open", NEARLY, 1], False),  # before it is opened
        (["hold", "leave", NEARLY, "open", NEARLY], True),
        (["hold", "open", "leave", NEARLY, "hold", 1e6], True),  # a connection that only broke
        (["hold", "hold", "open", "leave", 1e6], True),  # one of two drivers
        (["hold", "hold", "open", "leave", "leave", DRIVERLESS_S], False),
        (["hold", "open", "close"], False),
        (["hold", "open", "close", "close", "leave"], False),  # closed twice
        (["hold", "open", "close", "leave", "sessions"], False),  # of a session that is late
        (["hold", "open", "close", "sessions", "leave"], False),
        (["hold", "open", "close", "leave", 1e6, "sessions"], False),
        (["hold", "open", "close", "leave", "restore"], False),  # of a client that did not hear of it
        (["hold", "restore", "close", "restore"], False),
        (["close", "restore"], False),  # a new admission hears of the end first
        (["close", "sessions"], False),
        (["hold", "restore", 1e6], True),
        (["hold", "sessions", 1e6], True),
        (["open", DRIVERLESS_S, "sessions"], False),  # its root goes on without a driver
        (["open", DRIVERLESS_S, "restore"], False),
        (["open", "open", NEARLY, 1], False),  # opened twice
        (["open", NEARLY, "open", 1], False),
        (["hold", "open", "open", "close"], False),
        (["close", "open"], False),  # the closing came first
        (["hold", "close", "leave", "open", "sessions"], False),
        (["hold", "open", "close", "open"], False),  # its root is begun on another actor
        (["close", "again", "open", NEARLY], True),
        (["close", "again", "open", NEARLY, 1], False),
        (["hold", "open", "close", "leave", "again", "hold", "open", 1e6], True),  # taken up again
        (["hold", "open", "close", "leave", "again", "hold", "open", "sessions", "close", "leave"], False),
        (["hold", "open", "again", "hold", "open", "late close", "leave", 1e6], True),  # before the first has closed it
        (["hold", "open", "again", "hold", "open", "late close", "close"], False),
        (["hold", "open", "close", "again", "hold", "restore", "late close", 1e6], False),
        (["hold", "restore", "close", "again", "open", 1], True),
        (["open", DRIVERLESS_S, "open", 1], True),  # closed by nobody: its driver may have been cut off
    ],
)  # fmt: skip
def test_run_is_open_as_long_as_it_has_a_driver(events, is_open):
    assert after(*events).is_open == is_open


LATE = ["late open", "late close", "late sessions", "late restore"]
EVENTS = st.sampled_from(
    [
        "open",
        "again",
        "hold",
        "leave",
        "close",
        "sessions",
        "restore",
        "ask",
        *LATE,
        0.5,
        NEARLY,
        DRIVERLESS_S,
    ]
)


@given(
    events=st.lists(EVENTS, max_size=30),
    late=st.lists(st.sampled_from(["sessions", "restore", "ask", "close", *LATE[1:], 0.5])),
)
def test_nothing_is_left_of_a_run_whose_drivers_are_gone_whatever_comes_late(events, late):
    life = after(*events)
    for _ in range(life.drivers):
        life.play("leave")
    life.play(DRIVERLESS_S)
    was_known = life.admission._runs.is_closed("run")
    for event in late:
        life.play(event)
    assert not life.is_open or not was_known
    life.play(DRIVERLESS_S)
    left = life.admission.stats()
    assert [left[table] for table in ("runs", "drivers", "driverless", "waiting", "strays")] == [0] * 5


ENDINGS = {"close", "leave", "late close"}


@given(events=st.lists(EVENTS.filter(lambda event: event not in ENDINGS), max_size=20))
def test_run_that_is_held_stays_open(events):
    life = after("hold", "open", *events)
    assert life.is_open


def test_request_of_a_closed_run_is_refused_at_once():
    life = after("hold", "open", "close")
    life.admission.request(PermitRequest("run", "account", "m", 1, 1, request_id="t"), 0.0)
    (decision,) = life.admission.decisions(0.0)
    assert isinstance(decision, Refused)
    assert decision.reason == "closed"


def test_request_that_waits_for_its_run_to_be_opened_is_refused_when_it_is_closed_instead():
    life = Life()
    life.admission.request(PermitRequest("run", "account", "m", 1, 1, request_id="t"), 0.0)
    assert life.admission.decisions(0.0) == []
    life.admission.close_run("run")
    assert [decision.request_id for decision in life.admission.decisions(0.0)] == ["t"]


def test_sessions_of_a_closed_run_are_refused():
    refused = after("hold", "open", "close").admission.open_sessions(POLICY, 1, 0.0)
    assert refused is not None
    assert refused.reason == "closed"


def test_only_so_many_closed_runs_are_remembered():
    runs = OpenRuns()
    for number in range(MAX_CLOSED + 10):
        runs.close(str(number))
    assert not runs.is_closed("9")
    assert runs.is_closed("10")
