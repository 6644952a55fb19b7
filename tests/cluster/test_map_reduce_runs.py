"""One question over many documents, through Ray and a model over HTTP."""

from __future__ import annotations

import json
import os
import re
from collections import Counter

import pytest

from rlm_ray.batch.source import read_documents
from rlm_ray.config import settings_from
from rlm_ray.core.context import make_context
from rlm_ray.errors import AuthenticationError
from rlm_ray.journal.run_store import RunStore
from rlm_ray.mapreduce.execute import build_plan, execute_plan
from rlm_ray.runs.run import new_run_id
from rlm_ray.testing import Failure, ModelServer

pytestmark = pytest.mark.ray

STATUSES = ["Final", "Draft", "Active"]
DOCUMENTS = [
    {"id": f"d{n}", "text": f"PEP: {n}\nStatus: {STATUSES[n % 3]}\n\n" + "words " * 500} for n in range(200)
]
COUNTS = {"Final": 67, "Draft": 67, "Active": 66}


def status(request):
    """A model that reads the status in the header of the document it was given."""
    found = re.findall(r"^Status: *(\w+)", request.last.partition("\n\nContext:\n")[2], re.MULTILINE)
    return json.dumps({"status": found[:1]})


@pytest.fixture
def settings(cluster, tmp_path):
    def make(server, **options):
        given = {"model": "openai/reader", "api_base": server.url, "api_key": "k", "run_dir": tmp_path}
        return settings_from({**given, "cluster": cluster, **options})

    return make


async def asked(settings, context, **options):
    plan = build_plan(settings, "Which status?", context, reduce="count:status", pack=False, **options)
    return await execute_plan(settings, plan, context)


async def test_counting_over_both_actors_is_exact(settings):
    with ModelServer(status) as server:
        found = await asked(settings(server), make_context(DOCUMENTS))
        assert len(server.requests) == 200
    assert found.value == {"status": COUNTS}
    assert found.usage.total.calls == 200
    assert found.plan.total.input_tokens == pytest.approx(found.usage.total.input_tokens, rel=0.02)
    assert [place.document for place in found.origin.sources("status", "Draft")][:2] == ["d1", "d4"]


async def test_a_run_goes_on_from_its_record(settings):
    left = 100

    def failing(request):
        nonlocal left
        left -= 1
        return status(request) if left >= 0 else Failure(401)

    context, run_id = make_context(DOCUMENTS), new_run_id()
    with ModelServer(failing) as server:
        chosen = settings(server)
        plan = build_plan(chosen, "Which status?", context, reduce="count:status", pack=False)
        with pytest.raises(AuthenticationError):
            await execute_plan(chosen, plan, context, run_id=run_id)
        left = 1_000
        answered = Counter(
            record.error_kind == ""
            for record in RunStore(chosen.run_dir, run_id).records()
            if type(record).__name__ == "CallEnded"
        )[True]
        found = await execute_plan(chosen, plan, context, run_id=run_id)
    assert answered == 100
    assert found.value == {"status": COUNTS}
    assert left == 1_000 - (200 - answered)


async def test_a_limit_gives_what_is_known(settings):
    with ModelServer(status) as server:
        found = await asked(settings(server, limits={"calls": 50}), make_context(DOCUMENTS))
        assert 45 <= len(server.requests) <= 50
    assert found.stop_reason == "calls"
    assert 0 < sum(found.value["status"].values()) == found.answered <= 50


async def test_a_model_puts_answers_together_over_the_cluster(settings):
    def adding(request):
        numbers = re.findall(r"(\d+) are final", request.last)
        return f"{sum(map(int, numbers)) if numbers else request.last.count('Status: Final')} are final"

    with ModelServer(adding) as server:
        chosen = settings(server, max_leaf_chars=10_000)
        context = make_context(DOCUMENTS)
        plan = build_plan(chosen, "How many are final?", context)
        found = await execute_plan(chosen, plan, context)
    assert found.answer == "67 are final"
    assert len(plan.levels) > 1
    *_, end = RunStore(chosen.run_dir, found.run_id).records()
    assert (end.stop_reason, end.answer) == ("answered", "67 are final")


@pytest.mark.skipif(
    "RLM_RAY_TEST_PEPS" not in os.environ, reason="RLM_RAY_TEST_PEPS names no file of documents"
)
async def test_the_status_of_every_pep_is_counted(settings):
    context, _ = read_documents([os.environ["RLM_RAY_TEST_PEPS"]])

    def listed(request):
        text = request.last.partition("\n\nContext:\n")[2]
        headers = re.findall(r"(?:\A|\n\n)(?:\[[^\]\n]+\]\n)?(PEP: *\d+\n(?:.+\n)+)", text)
        return json.dumps({"status": re.findall(r"^Status: *(\w+)", "\n".join(headers), re.MULTILINE)})

    with ModelServer(listed) as server:
        chosen = settings(server)
        plan = build_plan(chosen, "Which status?", context, reduce="count:status")
        found = await execute_plan(chosen, plan, context)
    assert found.value["status"] == {
        "Final": 361, "Rejected": 125, "Withdrawn": 64, "Draft": 48,
        "Active": 38, "Deferred": 33, "Superseded": 24, "Accepted": 10,
    }  # fmt: skip
