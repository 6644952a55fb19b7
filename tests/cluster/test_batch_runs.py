"""Batches over a real cluster and a counting server."""

from __future__ import annotations

import json

import pytest
from scripts import run_script

from rlm_ray.batch.formats import Jsonl
from rlm_ray.batch.job import BatchJob
from rlm_ray.batch.runner import BatchSpec
from rlm_ray.batch.source import open_corpus
from rlm_ray.batch.template import Template
from rlm_ray.batch.writer import BatchOutput
from rlm_ray.cli.runs import facts_of
from rlm_ray.config import Settings
from rlm_ray.core.limits import Limits
from rlm_ray.journal.run_store import list_runs
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.runs.run import new_run_id
from rlm_ray.testing import Failure, ModelServer
from rlm_ray.testing.responses import text_of

pytestmark = pytest.mark.ray

ROWS = 24


def answer(request):
    """One plain call for each row; one of them is poisoned."""
    asked = " ".join(text_of(message) for message in request.messages)
    return Failure(400) if "poison" in asked else "fine"


@pytest.fixture
def provider():
    with ModelServer(answer) as running:
        yield running


@pytest.fixture
def batch(cluster, provider, tmp_path):
    """Carry out a batch over these texts; another one with the same output goes on."""

    async def run(texts, *, retry_failed=False, **limits):
        settings = Settings(
            model="openai/m",
            max_depth=0,
            params={"api_base": provider.url, "api_key": "k"},
            run_dir=str(tmp_path / "runs"),
            cluster=cluster,
            limits=Limits(**limits),
        )
        corpus = open_corpus([{"id": str(n), "text": text} for n, text in enumerate(texts)])
        work = BatchSpec(Template.parse("What of {id}?"))
        task = BatchJob(settings, corpus, work, BatchOutput(str(tmp_path / "out"), Jsonl()), _open)
        return await task.run(new_run_id(), retry_failed=retry_failed)

    return run


def _open(settings, run_id, query):
    return open_batch_run(settings, query, run_id=run_id)


def rows(tmp_path):
    lines = [line for part in (tmp_path / "out").glob("part-*") for line in part.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda row: row["row"])


def on_record(tmp_path, run_id):
    """How the record says that the run ended."""
    (folder,) = (each for each in list_runs(str(tmp_path / "runs")) if each.run_id == run_id)
    return facts_of(folder)["state"]


async def test_all_rows_are_one_run_that_pays_for_each_once(batch, provider, tmp_path):
    summary = await batch([f"text {n}" for n in range(ROWS)])
    assert provider.stats().calls == ROWS
    assert (summary.stop_reason, summary.answered, summary.calls) == ("done", ROWS, ROWS)
    written = rows(tmp_path)
    assert [row["row"] for row in written] == list(range(ROWS))
    assert {(row["answer"], row["calls"], row["run_id"]) for row in written} == {("fine", 1, summary.run_id)}
    assert sum(row["input_tokens"] for row in written) == summary.input_tokens
    assert (await batch([f"text {n}" for n in range(ROWS)])).earlier == ROWS
    assert provider.stats().calls == ROWS


async def test_a_poisoned_row_fails_alone_and_is_asked_again_on_demand(batch, provider, tmp_path):
    texts = [f"text {n}" for n in range(5)] + ["poison"]
    summary = await batch(texts)
    assert (summary.answered, summary.failed) == (5, 1)
    assert rows(tmp_path)[5]["error"].startswith("ModelError: openai/m")
    before = provider.stats().calls
    assert (await batch(texts, retry_failed=True)).failed == 1
    assert provider.stats().calls == before + 1


async def test_at_the_limit_it_pauses_and_a_raised_one_repays_nothing(batch, provider, tmp_path):
    texts = [f"text {n}" for n in range(ROWS)]
    paused = await batch(texts, calls=10)
    assert paused.stop_reason == "calls"
    assert provider.stats().calls <= 10
    assert on_record(tmp_path, paused.run_id) == "calls"
    summary = await batch(texts, calls=100)
    assert (summary.stop_reason, summary.answered, summary.run_id) == ("done", ROWS, paused.run_id)
    assert provider.stats().calls == summary.calls == ROWS
    assert on_record(tmp_path, paused.run_id) == "answered"


def test_a_ray_dataset_and_session_actors_share_the_cpus_of_a_small_machine(tmp_path):
    found = run_script("dataset_batch.py", tmp_path)
    assert found == {
        "rows": 400,
        "in_order": True,
        "answered": 400,
        "kind": "MaterializedDataset",
        "ids_kept": True,
        "days": ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"],
        "answers": 150,
    }
