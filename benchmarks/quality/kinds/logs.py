"""Tasks over the log of a shop's services, one event a line."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import TypeAlias

from quality.scoring import NOT_FOUND, Truth, list_line
from quality.task import Kind, require, single_maximum

SERVICES = ("auth", "billing", "checkout", "inventory", "mailer", "search")
_MESSAGES = {
    "DEBUG": (
        "cache miss, loading from the store",
        "connection taken from the pool",
        "feature flags refreshed",
    ),
    "INFO": (
        "request served",
        "session renewed",
        "queue drained",
        "index segment merged",
        "mail handed to relay",
    ),
    "WARN": ("slow query", "retrying after a short pause", "disk is 81% full", "deprecated field in request"),
    "ERROR": ("gateway timed out", "connection reset by peer", "row lock not granted", "template not found"),
}
_LEVELS, _WEIGHTS = tuple(_MESSAGES), (25, 45, 18, 12)
_Built: TypeAlias = tuple[str, str, Truth]


@dataclass(frozen=True, slots=True)
class Event:
    """One line."""

    at: datetime
    level: str
    service: str
    request: str
    user: str
    ms: int
    message: str

    def __str__(self) -> str:
        return (
            f"{self.at:%Y-%m-%dT%H:%M:%SZ} {self.level:5} {self.service}[{1000 + SERVICES.index(self.service)}]"
            f' req={self.request} user={self.user} ms={self.ms} msg="{self.message}"'
        )


def draw_events(rng: Random, chars: int) -> list[Event]:
    """Return so many events that their lines have about so many characters."""
    at = datetime(2026, 3, 2, rng.randrange(24), rng.randrange(60), tzinfo=UTC)
    weights = [rng.randint(1, 6) for _ in SERVICES]
    users = max(5, chars // 1_500)
    events = []
    for number in range(max(8, chars // 102)):
        at += timedelta(seconds=rng.choice((1, 2, 3, 5, 8, 13, 40, 95)))
        level = rng.choices(_LEVELS, _WEIGHTS)[0]
        service = rng.choices(SERVICES, weights)[0]
        request = f"{(number * 7919 + 104_729) % 16_777_213:06x}"
        user, ms = f"u{rng.randrange(users):04d}", int(rng.lognormvariate(4.5, 1.0)) + 1
        events.append(Event(at, level, service, request, user, ms, rng.choice(_MESSAGES[level])))
    return events


def _text(events: list[Event]) -> str:
    return "\n".join(map(str, events)) + "\n"


def _count(rng: Random, chars: int) -> _Built:
    events, service = draw_events(rng, chars), rng.choice(SERVICES)
    number = sum(event.level == "ERROR" and event.service == service for event in events)
    require(single_truth=number > 0)
    asked = f"How many lines of the log have the level ERROR and come from the service {service}? Answer with the number only."
    return asked, _text(events), Truth("number", number)


def _between(rng: Random, chars: int) -> _Built:
    events = draw_events(rng, chars)
    first, last = sorted(rng.sample(range(len(events)), 2))
    start, end = events[first].at, events[last].at
    number = sum(start <= event.at <= end and event.level in ("WARN", "ERROR") for event in events)
    require(single_truth=number > 2)
    asked = (
        f"How many lines of the level WARN or ERROR lie between {start:%Y-%m-%dT%H:%M:%SZ} and {end:%Y-%m-%dT%H:%M:%SZ}, both "
        "included? Answer with the number only."
    )
    return asked, _text(events), Truth("number", number)


def _group_maximum(rng: Random, chars: int) -> _Built:
    events = draw_events(rng, chars)
    level = rng.choice(("WARN", "ERROR"))
    most = single_maximum(Counter(event.service for event in events if event.level == level))
    asked = (
        f"Which service has the most lines of the level {level}? Answer with the name of the service only."
    )
    return asked, _text(events), Truth("text", most, SERVICES)


def _distinct(rng: Random, chars: int) -> _Built:
    events, service = draw_events(rng, chars), rng.choice(SERVICES)
    number = len({event.user for event in events if event.service == service})
    require(single_truth=number > 1)
    asked = f"How many different users occur in lines of the service {service}? Answer with the number only."
    return asked, _text(events), Truth("number", number)


def _sum(rng: Random, chars: int) -> _Built:
    events = draw_events(rng, chars)
    user = rng.choice(events).user
    spent = [event.ms for event in events if event.user == user]
    require(single_truth=len(spent) > 1)
    asked = f"What is the sum of ms over all lines of the user {user}? Answer with the number only."
    return asked, _text(events), Truth("number", sum(spent))


def _median(rng: Random, chars: int) -> _Built:
    events, service = draw_events(rng, chars), rng.choice(SERVICES)
    spent = [event.ms for event in events if event.service == service]
    require(single_truth=len(spent) > 2 and len(spent) % 2 == 1)
    asked = f"What is the median of ms over all lines of the service {service}? Answer with the number only."
    return asked, _text(events), Truth("number", statistics.median(spent))


def _gap(rng: Random, chars: int) -> _Built:
    events = draw_events(rng, chars)
    errors = [event.at for event in events if event.level == "ERROR"]
    require(single_truth=len(errors) > 2)
    longest = max((later - earlier).total_seconds() for earlier, later in pairwise(errors))
    asked = (
        "How many seconds is the longest time between two ERROR lines with no other ERROR line between them? "
        "Answer with the number of seconds only."
    )
    return asked, _text(events), Truth("number", longest)


def _join(rng: Random, chars: int) -> _Built:
    """Three hops: the slowest line → its user → the first line of that user → its service."""
    events = draw_events(rng, chars)
    slowest = max(events, key=lambda event: event.ms)
    require(single_truth=sum(event.ms == slowest.ms for event in events) == 1)
    first = next(event for event in events if event.user == slowest.user)
    require(single_truth=first != slowest)
    asked = (
        "Find the line with the highest ms. Which service wrote the first line in the log of the same user? "
        "Answer with the name of the service only."
    )
    return asked, _text(events), Truth("text", first.service, SERVICES)


def _after(rng: Random, chars: int) -> _Built:
    events = draw_events(rng, chars)
    at = rng.randrange(len(events) // 2)
    service = rng.choice(SERVICES)
    later = [event for event in events[at + 1 :] if event.level == "ERROR" and event.service == service]
    require(single_truth=len(later) > 0)
    asked = (
        f"After the line with req={events[at].request}, which is the first request (req) with an ERROR of the service {service}? "
        "Answer with its req only."
    )
    return asked, _text(events), Truth("text", later[0].request)


def _users_of_errors(rng: Random, chars: int) -> _Built:
    events = draw_events(rng, chars)
    service, message = rng.choice(SERVICES), rng.choice(_MESSAGES["ERROR"])
    users = sorted({event.user for event in events if event.service == service and event.message == message})
    require(single_truth=1 < len(users) <= 40)
    asked = f'Which users have a line of the service {service} with the message "{message}"? ' + list_line(
        "the users", ("u0001", "u0002")
    )
    return asked, _text(events), Truth("list", users)


def _absent(rng: Random, chars: int) -> _Built:
    events = draw_events(rng, chars)
    request = f"{rng.randrange(16**6):06x}"
    require(single_truth=all(event.request != request for event in events))
    asked = f"Which user made the request req={request}? Answer with the user only, or with: {NOT_FOUND}"
    return asked, _text(events), Truth("absent")


KINDS = (
    Kind("log_count", "filter and count", _count),
    Kind("log_between", "filter by level and time, count", _between),
    Kind("log_group_max", "group and maximum", _group_maximum),
    Kind("log_distinct", "count different values", _distinct),
    Kind("log_sum", "sum over a filter", _sum),
    Kind("log_median", "median over a filter", _median),
    Kind("log_gap", "date arithmetic: the longest gap", _gap),
    Kind("log_join", "multi-hop join", _join),
    Kind("log_after", "order: the first after another", _after),
    Kind("log_users", "list of a filter", _users_of_errors, ("8k", "20k", "80k", "400k")),
    Kind("log_absent", "not in the text", _absent),
)
