"""How many documents have each status: one question over all of them together, from one and from two actors.

The documents are a JSONL file (also .gz) with `id` and `text`, such as the Python Enhancement Proposals, each text with
a header that has a line `Status: ...`. The model is a server on loopback in a process of its own that reads the headers
of the text it is given; so the count must be exact, and the time is the engine's.

What a second actor gains is not in the model's latency: one actor waits for as many calls at once as the admission lets
out, so where latency is all there is, two take as long as one. An actor is one Python thread, and what it does for a
call (most of it litellm) takes milliseconds of CPU: that is what a second one divides, as far as there are cores. So
each plan is measured twice, with a quick model (the CPU bounds it) and with a slow one (the latency does). Beside the
speed-up stands what the CPU of this machine allows, as measured with the first number of actors: all of it over all
cores, or that of the actors over so many of them, whichever takes longer; and beside the seconds those that the latency
takes alone, with 100 calls at once.

    python benchmarks/mapreduce.py DOCUMENTS [--actors 1 2] [--latency-s 0.02 1.0] [--json FILE]
    python benchmarks/mapreduce.py --generate-mb 1000 --actors 2 --latency-s 0 --leaf-chars 300000 --rounds 1 --only pack

Memory is the most that was seen, ten times a second, of this process and of the session actors: their own, without what they
share, such as the corpus in Ray's object store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any, Self

from census import CORES, Census

from rlm_ray import Cluster, Rates
from rlm_ray.batch.source import read_documents
from rlm_ray.config import Settings, settings_from
from rlm_ray.core.context import Context, DocumentRange
from rlm_ray.core.llm import Price
from rlm_ray.mapreduce.execute import build_plan, execute_plan
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.responses import Request

QUESTION = "Which status does each document have?"
MODEL = "openai/reader"
IN_FLIGHT = 100
"""Calls under way at once, whatever the number of actors: said here, so that no window is learned meanwhile."""
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
    for number in range(context.info.documents):
        header = context.slice(DocumentRange(number, number + 1)).text().partition("\n\n")[0]
        found.update(_STATUS.findall(header)[:1])
    return found


def generate(path: Path, mb: int) -> None:
    """Write documents of 30 to 300 kB, each with a status."""
    draw = random.Random(1)
    lines = [f"line {number} of a text that nobody has written" for number in range(1_000)]
    paragraphs = ["\n".join(draw.choices(lines, k=20)) for _ in range(500)]
    number, nbytes = 0, 0
    with path.open("w") as file:
        while nbytes < mb * 1_000_000:
            body = "\n\n".join(draw.choices(paragraphs, k=draw.randint(30, 300)))
            text = f"PEP: {number}\nStatus: {draw.choice(['Active', 'Draft', 'Final'])}\n\n{body}"
            nbytes += file.write(json.dumps({"id": f"pep-{number}", "text": text}) + "\n")
            number += 1


class PeakMemory:
    """Looks ten times a second how much memory each role has."""

    def __init__(self, census: Census) -> None:
        self._census, self._over = census, threading.Event()
        self.mb: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for role, mb in self._census.private_mb().items():
                self.mb[role] = max(self.mb.get(role, 0.0), round(mb))


def _settings(url: str, actors: int, leaf_chars: int) -> Settings:
    cluster = Cluster(min_actors=actors, max_actors=actors)
    rates = Rates(in_flight=IN_FLIGHT)
    options: dict[str, Any] = {"api_base": url, "api_key": "none", "prices": {MODEL: PRICE}, "rates": rates}
    if leaf_chars:
        options["max_leaf_chars"] = leaf_chars
    return settings_from({"model": MODEL, "cluster": cluster, "run_dir": False, **options})


async def _measure(
    options: argparse.Namespace, server: ServerProcess, actors: int, *, pack: bool
) -> dict[str, Any]:
    context, _ = read_documents([options.documents])
    truth = _truth(context)
    settings = _settings(server.url, actors, options.leaf_chars)
    schema = _schema(sorted(truth), pack=pack)
    plan = build_plan(settings, QUESTION, context, reduce="count:status", schema=schema, pack=pack)
    times, census = [], Census(server.pid)
    with PeakMemory(census) as peak:
        for _ in range(options.rounds):
            before, started = census.look()[1], time.perf_counter()
            found = await execute_plan(settings, plan, context)
            times.append(time.perf_counter() - started)
            cpu_s = {role: seconds - before.get(role, 0.0) for role, seconds in census.look()[1].items()}
    assert found.value == {"status": dict(truth)}, (found.value, truth)
    used = found.usage.total
    return {
        "actors": actors,
        "pack": pack,
        "calls": used.calls,
        "planned": {"tokens": plan.total.input_tokens + plan.total.output_tokens, "usd": plan.total.cost_usd},
        "used": {"tokens": used.tokens, "usd": used.cost_usd},
        "counts": found.value["status"],
        "bytes": context.nbytes,
        "peak_mb": peak.mb,
        "seconds": min(times[1:] or times),  # the first one starts Ray and warms connections
        "cpu_s": cpu_s,
        "table": plan.lines(used),
    }


def _child(options: argparse.Namespace, actors: int, pack: str, latency_s: float) -> dict[str, Any]:
    """A process of its own has a pool of its own size."""
    command = [sys.executable, __file__, options.documents, "--one", str(actors), pack]
    command += ["--latency-s", str(latency_s), "--rounds", str(options.rounds)]
    command += ["--leaf-chars", str(options.leaf_chars)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures


def _one(options: argparse.Namespace) -> None:
    actors, pack = options.one
    script = ["--script", "mapreduce:headers", "--latency-s", str(options.latency_s[0])]
    with ServerProcess(script) as server:
        figures = asyncio.run(_measure(options, server, int(actors), pack=pack == "pack"))
    print(json.dumps(figures))


def _line(row: dict[str, Any], first: dict[str, Any], latency_s: float) -> str:
    least_s = latency_s * -(-row["calls"] // IN_FLIGHT)
    off = row["used"]["usd"] / row["planned"]["usd"] - 1
    each = " · ".join(
        f"{role} {1e3 * spent / row['calls']:.1f}" for role, spent in sorted(row["cpu_s"].items())
    )
    return (
        f"{row['actors']} actor(s): {row['seconds']:.2f} s (the latency alone: {least_s:.2f}), "
        f"{row['calls'] / row['seconds']:.0f} calls/s, "
        f"speed-up {first['seconds'] / row['seconds']:.2f} (the CPU allows {_allowed(row['actors'], first):.2f}); "
        f"CPU of a call, ms: {each}; cost {off:+.1%} against the plan; {row['bytes'] / 1e6:,.0f} MB read, at most "
        + ", ".join(
            f"{row['peak_mb'].get(role, 0):,.0f} MB {role}" for role in ("driver", "actors", "services")
        )
    )


def _allowed(actors: int, first: dict[str, Any]) -> float:
    """The speed-up, were the CPU all there is."""
    all_s, theirs_s = sum(first["cpu_s"].values()) / CORES, first["cpu_s"].get("actors", 0.0)
    before_s, now_s = (max(all_s, theirs_s / many) for many in (first["actors"], actors))
    return float(before_s / now_s) if now_s else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("documents", nargs="?", default="", help="a JSONL file with `id` and `text`")
    parser.add_argument("--generate-mb", type=int, default=0, help="documents made for the occasion")
    parser.add_argument("--leaf-chars", type=int, default=0, help="of a piece; 0: as the settings say")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["pack", "alone"], help="how documents travel; both without it")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--latency-s", type=float, nargs="+", default=[0.02, 1.0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.generate_mb:
            options.documents = str(Path(folder) / "documents.jsonl")
            generate(Path(options.documents), options.generate_mb)
        elif not options.documents:
            parser.error("give a file of documents, or --generate-mb")
        compare(options)


def compare(options: argparse.Namespace) -> None:
    rows = []
    for pack, latency_s in product([options.only] if options.only else ["pack", "alone"], options.latency_s):
        print(
            f"\ndocuments {'share pieces' if pack == 'pack' else 'each alone'}, answers after {latency_s:g} s"
        )
        measured = [_child(options, actors, pack, latency_s) for actors in options.actors]
        print("\n".join(measured[0]["table"]))
        for row in measured:
            print(_line(row, measured[0], latency_s), flush=True)
        rows += measured
    print(f"\ncounts, exact in all of them: {rows[0]['counts']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
