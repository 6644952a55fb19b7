"""A job that answers in this process, and small corpora."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

from rlm_ray.batch.formats import format_of
from rlm_ray.batch.job import BatchJob
from rlm_ray.batch.runner import BatchSpec
from rlm_ray.batch.source import open_corpus
from rlm_ray.batch.template import Template
from rlm_ray.batch.writer import BatchOutput
from rlm_ray.config import Settings
from rlm_ray.core.repl_types import Failed, SubCallAnswer
from rlm_ray.events.usage import CallStats, RunUsage
from rlm_ray.session.result import SessionResult


def used(calls=1, cost_usd=0.01):
    return RunUsage({("m", 0): CallStats(calls=calls, input_tokens=100, output_tokens=10, cost_usd=cost_usd)})


class FakeJob:
    """Answers with `reply(row, query, context)`, which may raise or be awaited; counts what it is asked."""

    def __init__(self, reply=None, concurrency=4):
        self._reply = reply or (lambda row, query, context: f"{query}|{context.text()}")
        self.concurrency = concurrency
        self.run_id = ""
        self.trace_id = "trace"
        self.asked = Counter()
        self.repairs = []
        self.repaired = "{}"
        self.under_way = self.most_under_way = 0
        self.opened = []

    async def ask(self, row, query, context):
        self.asked[row] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            answer = self._reply(row, query, context)
            if asyncio.iscoroutine(answer):
                answer = await answer
        finally:
            self.under_way -= 1
        return (
            answer
            if isinstance(answer, SessionResult)
            else SessionResult(answer, "answered", turns=2, usage=used())
        )

    def end_as(self, reason, why, answer=None):
        self.ended = reason, why

    async def llm_calls(self, calls):
        self.repairs += [(row, number, query) for row, number, query, *_ in calls]
        return [self.repaired if isinstance(self.repaired, Failed) else SubCallAnswer(self.repaired)] * len(
            calls
        )

    async def usage(self):
        return used(sum(self.asked.values()))

    @asynccontextmanager
    async def open(self, settings, run_id, query):
        self.opened.append(run_id)
        self.run_id = run_id
        yield self


def task_of(
    source,
    out,
    job,
    query="Q",
    *,
    form=None,
    settings=None,
    schema=None,
    limit=None,
    on_limit="pause",
    **columns,
):
    """A batch over `source` whose job is `job`."""
    corpus = open_corpus(source, **columns)
    work = BatchSpec(Template.parse(query), schema, limit, on_limit)
    further = schema.arrow() if schema is not None else None
    output = BatchOutput(str(out), format_of(str(out), form, further))
    return BatchJob(settings or Settings(), corpus, work, output, job.open)


def rows_of(out):
    """All rows below a folder of JSONL parts, by number."""
    lines = [line for part in sorted(out.glob("part-*.jsonl")) for line in part.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda row: row["row"])
