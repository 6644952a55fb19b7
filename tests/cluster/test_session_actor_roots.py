"""A root in its actor: its run is opened, its answer given, also where the admission is gone by then."""

from __future__ import annotations

from types import SimpleNamespace

from rlm_ray.cluster.answer_feed import AnswerOutbox
from rlm_ray.cluster.session_actor import SessionActor
from rlm_ray.config import Settings
from rlm_ray.errors import ClusterError
from rlm_ray.events.usage import RunUsage
from rlm_ray.llm.run_context import RunContext
from rlm_ray.session.session import SessionResult


class Admission:
    """An admission that opens the run and is gone before its end."""

    def __init__(self):
        self.opened = []

    async def open_run(self, policy):
        self.opened.append(policy.run_id)

    async def usage(self, run_id):
        raise ClusterError("the admission of the cluster does not answer")


class Gateway:
    def check_prices(self, models, run):
        pass

    async def flush(self, run_id):
        pass


class Root:
    async def run(self):
        return SessionResult("forty-two", "answered")


async def test_answer_of_a_root_is_given_also_where_nobody_knows_any_more_what_it_used():
    actor = object.__new__(SessionActor)
    actor._gateway, actor._admission, actor._answers, actor._roots = (
        Gateway(),
        Admission(),
        AnswerOutbox(),
        {},
    )
    spec = SimpleNamespace(run=RunContext("run", Settings(model="m")))
    result = await actor._run_root(spec, Root())
    assert (result.answer, result.stop_reason, result.usage) == ("forty-two", "answered", RunUsage())
    assert (actor._admission.opened, actor._roots) == (["run"], {})
