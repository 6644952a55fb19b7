"""Tasks over a handbook in Markdown: a section for each service, with a table, a task list and prose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from quality.scoring import Truth, list_line
from quality.task import Kind, require, single_maximum

PEOPLE = ("amara", "boris", "chen", "dalia", "emeka", "freya", "goran", "hana", "ivo", "jaya")
_FIRST = ("amber", "birch", "cobalt", "dune", "ember", "fjord", "garnet", "harbor", "indigo", "juniper")
_SECOND = ("api", "cron", "gateway", "index", "ledger", "mesh", "proxy", "queue", "store", "worker")
_WORK = ("rotate the certificates", "raise the disk alert", "write the runbook", "drop the old index")
_PROSE = (
    "Deployments go out on weekdays before noon, behind a flag, and are watched for an hour.",
    "Backups are taken every night and restored once a month on a spare machine.",
    "The dashboards show latency and errors; pages go to whoever is on call.",
    "Schema changes are made in two steps, so that the previous version still runs.",
    "A feature without an owner is removed after a quarter without a commit.",
)
_Built: TypeAlias = tuple[str, str, Truth]


@dataclass(frozen=True, slots=True)
class Section:
    """What the handbook says of one service."""

    service: str
    owner: str
    port: int
    needs: str
    """The service it depends on; empty for none."""
    tasks: tuple[tuple[bool, str, str], ...]
    """Done, by whom, what."""
    prose: str

    def __str__(self) -> str:
        rows = (
            f"| owner | @{self.owner} |\n| port | {self.port} |\n| depends on | {self.needs or 'nothing'} |"
        )
        tasks = "\n".join(f"- [{'x' if done else ' '}] {what} (@{who})" for done, who, what in self.tasks)
        return f"## {self.service}\n\n{self.prose}\n\n| field | value |\n|---|---|\n{rows}\n\n### Tasks\n\n{tasks}\n"


def draw_sections(rng: Random, chars: int) -> list[Section]:
    """Return so many sections that the handbook has about so many characters."""
    number = max(4, chars // 520)
    names = [f"{a}-{b}" for a in _FIRST for b in _SECOND]
    names += [f"{name}-{serial}" for serial in range(2, 2 + number // len(names)) for name in names]
    names = rng.sample(names, number)
    ports = rng.sample(range(1024, 65_535), number)
    return [
        Section(
            name,
            rng.choice(PEOPLE),
            ports[at],
            rng.choice(names[:at]) if at and rng.random() < 0.8 else "",
            tuple(
                (rng.random() < 0.5, rng.choice(PEOPLE), rng.choice(_WORK)) for _ in range(rng.randint(1, 7))
            ),
            " ".join(rng.sample(_PROSE, 2)),
        )
        for at, name in enumerate(names)
    ]


def _text(rng: Random, sections: list[Section]) -> str:
    return "# Handbook of services\n\n" + "\n".join(map(str, rng.sample(sections, len(sections))))


def _open_tasks(rng: Random, chars: int) -> _Built:
    sections, who = draw_sections(rng, chars), rng.choice(PEOPLE)
    number = sum(not done and by == who for section in sections for done, by, _ in section.tasks)
    require(single_truth=number > 0)
    asked = f"How many open tasks (`- [ ]`) are assigned to @{who}? Answer with the number only."
    return asked, _text(rng, sections), Truth("number", number)


def _port(rng: Random, chars: int) -> _Built:
    sections = draw_sections(rng, chars)
    section = rng.choice(sections)
    asked = f"Which port does the service {section.service} have? Answer with the number only."
    return asked, _text(rng, sections), Truth("number", section.port)


def _busiest_section(rng: Random, chars: int) -> _Built:
    sections = draw_sections(rng, chars)
    owned = Counter(section.owner for section in sections)
    asked = "Who owns the most services (field owner)? Answer with the name only, without @."
    return asked, _text(rng, sections), Truth("text", single_maximum(owned), PEOPLE)


def _owner_chain(rng: Random, chars: int) -> _Built:
    """A service → what it depends on → what that depends on → the owner."""
    sections = draw_sections(rng, chars)
    by_name = {section.service: section for section in sections}
    deep = [section for section in sections if section.needs and by_name[section.needs].needs]
    require(single_truth=bool(deep))
    start = rng.choice(deep)
    end = by_name[by_name[start.needs].needs]
    require(single_truth=end.owner not in (start.owner, by_name[start.needs].owner))
    asked = (
        f"{start.service} depends on a service, and that one depends on another. Who owns this last one? "
        "Answer with the name only, without @."
    )
    return asked, _text(rng, sections), Truth("text", end.owner, PEOPLE)


def _dependents(rng: Random, chars: int) -> _Built:
    sections = draw_sections(rng, chars)
    needed = Counter(section.needs for section in sections if section.needs)
    fitting = sorted(name for name, times in needed.items() if 2 <= times <= 12)
    require(single_truth=bool(fitting))
    name = rng.choice(fitting)
    dependents = sorted(section.service for section in sections if section.needs == name)
    asked = f"Which services depend directly on {name}? " + list_line(
        "their names", ("amber-api", "dune-mesh")
    )
    return asked, _text(rng, sections), Truth("list", dependents)


KINDS = (
    Kind("md_tasks", "count in task lists", _open_tasks),
    Kind("md_port", "look up in one of many tables", _port),
    Kind("md_owner", "group and maximum over tables", _busiest_section),
    Kind("md_chain", "multi-hop over sections", _owner_chain),
    Kind("md_dependents", "list of a reverse look-up", _dependents),
)
