"""Run by test_batch.py in a process of its own: a batch over a Ray dataset on a cluster of two CPUs."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from scripts import tell

from rlm_ray import RLM, Cluster
from rlm_ray.batch.formats import Jsonl
from rlm_ray.batch.job import BatchJob
from rlm_ray.batch.runner import BatchSpec
from rlm_ray.batch.source import open_corpus
from rlm_ray.batch.template import Template
from rlm_ray.batch.writer import BatchOutput
from rlm_ray.config import Settings
from rlm_ray.runs.batch_run import open_batch_run
from rlm_ray.testing import ModelServer

FILES, ROWS = 4, 100


def write(folder):
    for file in range(FILES):
        names = [f"{file}-{row}" for row in range(ROWS)]
        pq.write_table(
            pa.table(
                {
                    "id": names,
                    "text": [f"text {name}" for name in names],
                    "day": [dt.date(2024, 1, 1 + file)] * ROWS,
                }
            ),
            folder / f"{file}.parquet",
        )


async def main(folder):
    write(folder)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with ModelServer(lambda request: "fine") as server:
        settings = Settings(
            model="openai/m",
            max_depth=0,
            params={"api_base": server.url, "api_key": "k"},
            run_dir=str(folder / "runs"),
            cluster=Cluster(min_actors=2, max_actors=2),
        )
        await batch(
            folder, settings, "first"
        )  # leaves its session actors behind, which the second one has to share with
        summary = await batch(folder, settings, "second")
        table = await RLM(settings).abatch("Q", dataset_of(folder), limit=150)
        rows = table.take_all()
    ids = [json.loads(line)["id"] for line in (folder / "second.jsonl").read_text().splitlines()]
    expected = [f"{file}-{row}" for file in range(FILES) for row in range(ROWS)]
    tell(
        {
            "rows": len(ids),
            "in_order": ids == expected,
            "answered": summary.answered,
            "kind": type(table).__name__,
            "ids_kept": [row["id"] for row in rows] == expected,
            "days": sorted({str(row["day"]) for row in rows}),
            "answers": [row["answer"] for row in rows].count("fine"),
        }
    )


def dataset_of(folder):
    return ray.data.read_parquet([str(file) for file in sorted(folder.glob("*.parquet"))]).map(
        lambda row: row
    )


async def batch(folder, settings, name):
    dataset = dataset_of(folder)
    output = BatchOutput(str(folder / f"{name}.jsonl"), Jsonl())
    task = BatchJob(settings, open_corpus(dataset), BatchSpec(Template.parse("Q")), output, _open)
    return await task.run(name)


def _open(settings, run_id, query):
    return open_batch_run(settings, query, run_id=run_id)


asyncio.run(main(Path(sys.argv[1])))
os._exit(0)  # Ray's goodbye is of no interest here
