"""How many documents have each status: one question over all of them together, from one and from two actors.

The documents are a JSONL file (also .gz) with `id` and `text`, such as the Python Enhancement Proposals, each text with
a header that has a line `Status: ...`. The model is a server on loopback in a process of its own that reads the headers
of the text it is given; so the count must be exact, and the time is the engine's.

    python benchmarks/mapreduce.py DOCUMENTS [--actors 1 2] [--latency-s 0.05] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rlm_ray import Cluster
from rlm_ray.config import Settings, settings_from
from rlm_ray.core.context import Context
from rlm_ray.core.price import Price
from rlm_ray.corpus.mapreduce_input import read_documents
from rlm_ray.corpus.mapreduce_run import carry_out, planned
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.exchange import Request

QUESTION = "Which status does each document have?"
MODEL = "openai/reader"
PRICE = Price(input_usd=0.25, output_usd=2.0)
_HEADER = re.compile(r"(?:\A|\n\n)(?:\[[^\]\n]+\]\n)?(PEP: *\d+\n(?:.+\n)+)")
_STATUS = re.compile(r"^Status: *(\w+)", re.MULTILINE)


def headers(request: Request) -> str:
    """The model: the status in the header of each document it was given."""
    text = request.last.partition("\n\nContext:\n")[2]
    found = [_STATUS.search(header) for header in _HEADER.findall(text)]
    return json.dumps({"status": [status[1] for status in found if status]})


def _schema(statuses: list[str], *, pack: bool) -> dict[str, Any]:
    """What an answer looks like."""
    most = {} if pack else {"minItems": 0, "maxItems": 2}  # one each, on the mean
    listed = {"type": "array", "items": {"enum": statuses}, **most}
    return {"type": "object", "properties": {"status": listed}, "required": ["status"]}


def _truth(context: Context) -> Counter[str]:
    """By the headers, without any engine."""
    found: Counter[str] = Counter()
    for document in context.documents():
        assert isinstance(document, dict)
        header = document["text"].partition("\n\n")[0]
        found.update(_STATUS.findall(header)[:1])
    return found


def _settings(url: str, actors: int) -> Settings:
    cluster = Cluster(min_actors=actors, max_actors=actors)
    options = {"api_base": url, "api_key": "none", "prices": {MODEL: PRICE}}
    return settings_from({"model": MODEL, "cluster": cluster, "run_dir": False, **options})


async def _measure(documents: str, url: str, actors: int, *, pack: bool) -> dict[str, Any]:
    context, _ = read_documents([documents])
    truth = _truth(context)
    settings = _settings(url, actors)
    schema = _schema(sorted(truth), pack=pack)
    plan = planned(settings, QUESTION, context, reduce="count:status", schema=schema, pack=pack)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        found = await carry_out(settings, plan, context)
        times.append(time.perf_counter() - started)
    assert found.value == {"status": dict(truth)}, (found.value, truth)
    used = found.usage.total
    return {
        "actors": actors,
        "pack": pack,
        "calls": used.calls,
        "planned": {"tokens": plan.total.input_tokens + plan.total.output_tokens, "usd": plan.total.cost_usd},
        "used": {"tokens": used.tokens, "usd": used.cost_usd},
        "counts": found.value["status"],
        "seconds": min(times[1:]),  # the first one starts Ray and warms connections
        "table": plan.lines(used),
    }


def _child(options: argparse.Namespace, actors: int, pack: str) -> dict[str, Any]:
    """A process of its own has a pool of its own size."""
    command = [sys.executable, __file__, options.documents, "--one", str(actors), pack]
    command += ["--latency-s", str(options.latency_s)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures


def _one(options: argparse.Namespace) -> None:
    actors, pack = options.one
    script = ["--script", "mapreduce:headers", "--latency-s", str(options.latency_s)]
    with ServerProcess(script) as server:
        figures = asyncio.run(_measure(options.documents, server.url, int(actors), pack=pack == "pack"))
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("documents", help="a JSONL file with `id` and `text`")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(options)
        return
    rows = []
    for pack in ("pack", "alone"):
        first = None
        for actors in options.actors:
            row = _child(options, actors, pack)
            rows.append(row)
            first = first or row["seconds"]
            print(f"\n{actors} actor(s), documents {'share pieces' if pack == 'pack' else 'each alone'}")
            print("\n".join(row["table"]))
            off = row["used"]["usd"] / row["planned"]["usd"] - 1
            print(
                f"{row['seconds']:.2f} s, {row['calls'] / row['seconds']:.0f} calls/s, "
                f"speed-up {first / row['seconds']:.2f}; cost {off:+.1%} against the plan"
            )
    print(f"\ncounts, exact in all of them: {rows[0]['counts']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
