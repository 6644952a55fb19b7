"""The work of `recursion.py` and of `batch.py` by others: the official library, and a pool of 64 threads.

    python benchmarks/peer_work.py official|threads [--runs 3] [--only NAME ...] [--limit-s 60] [--json FILE]

The official library is `rlms` on PyPI; the pool is openai's client in 64 threads, and makes the calls that a program
of its user would: one to plan, all leaves at once, one to conclude. Both are locked in `requirements-bench.lock`.

The model is the same scripted server with the same latency, which speaks to the official library as its prompt asks:
blocks of `repl`, and an answer in `answer["content"]`. Each run is a process of its own, warmed by one question whose
time does not count, killed after `--limit-s`, and every answer is checked.

The official library's bound on children at once is raised from 4 to 32, which is faster for it, and each of its roots
has a process that is forked before the time counts.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures

LATENCY_S, ROW_LATENCY_S = 0.2, 0.05
CHILDREN_AT_ONCE, THREADS = 32, 64
TEXT = "The quick brown fox jumps over the lazy dog. "
LEAF, CHILD = "leaf answer", "session done"


@dataclass(frozen=True)
class Work:
    name: str
    """As `recursion.py` and `batch.py` call it."""
    items: int
    """What must be right."""
    unit: str = ""
    """What its CPU is divided by; empty where that says nothing."""
    latency_s: float = LATENCY_S
    scale: float = 1.0
    """Seconds are told for this share of the work."""


WORK = {
    "official": {
        "leaves": Work(figures.LEAVES, 500, figures.LEAF_CPU),
        "32 children": Work(figures.CHILDREN_32, 32, figures.CHILD_CPU),
        "256 children": Work(figures.CHILDREN_256, 256),
        "64 roots": Work(figures.ROOTS, 64, figures.ROOT_CPU),
        "100 MB": Work(figures.LARGE, 1),
    },
    "threads": {
        "leaves": Work(figures.LEAVES, 500, figures.LEAF_CPU),
        "rows": Work(figures.ROWS, 5000, figures.ROW_CPU, ROW_LATENCY_S, 0.2),
    },
}


def official_model(request: Any) -> str:
    """A script of the server: `recursion` in the words of the official library's prompt."""
    from rlm_ray.testing.responses import recursion

    said = recursion(request).replace("```python", "```repl")
    return said.replace(f"FINAL('{CHILD}')", _answer(repr(CHILD)))


def _answer(expression: str) -> str:
    return f"answer['content'] = {expression}; answer['ready'] = True"


def _query(*programs: str) -> str:
    """As `rlm_ray.testing.responses.run_query`, which the peers' environment does not have."""
    return " ".join(f"RUN:{base64.urlsafe_b64encode(program.encode()).decode()}" for program in programs)


def _official(url: str, **settings: Any) -> Any:
    from rlm import RLM

    backend = {"model_name": "m", "base_url": url, "api_key": "none", "timeout": 600}
    return RLM(backend="openai", backend_kwargs=backend, environment="local", **settings)


def _fan_out(url: str, count: int, function: str, item: str) -> int:
    pieces = f"['what is it? ' + context[i:i+500] for i in range(0, {500 * count}, 500)]"
    query = _query(f"a = {function}({pieces}); print(a[0])", _answer(f"str(sum({item!r} in x for x in a))"))
    rlm = _official(url, max_depth=2, max_concurrent_subcalls=CHILDREN_AT_ONCE)
    return int(rlm.completion(TEXT * (count * 500 // len(TEXT) + 1), root_prompt=query).response)


def _root(url: str, text: str, foxes: int) -> bool:
    """Ask for the number of foxes, which is known: to count it here would be a part of the time. A failure is a wrong answer."""
    query = _query("n = context.count('fox'); print(len(context), n)", _answer("str(n)"))
    try:
        return bool(_official(url).completion(text, root_prompt=query).response == str(foxes))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in the library is its answer
        print(error, file=sys.__stderr__)
        return False


def _pool(url: str, first: str, texts: Sequence[str], last: str, right: Callable[[str], bool]) -> int:
    """Make the calls for `texts` at once, between one before them and one after, where these are not empty."""
    import openai

    client = openai.OpenAI(base_url=url, api_key="none")

    def call(text: str) -> bool:
        messages: Any = [{"role": "user", "content": text}]
        found = client.chat.completions.create(model="m", messages=messages)
        return right(found.choices[0].message.content or "")

    with ThreadPoolExecutor(THREADS) as pool:
        if first:
            call(first)
        found = sum(pool.map(call, texts))
        if last:
            call(last)
        return found


def _work(peer: str, case: str, url: str) -> Callable[[], int]:
    """Prepare a case, and return what does it and says how many items are right."""
    items, piece = WORK[peer][case].items, (TEXT * 12)[:500]
    if case == "rows":
        return lambda: _pool(url, "", [f"{number} {piece[:200]}" for number in range(items)], "", bool)
    if peer == "threads":
        leaves = [f"what is it? {piece}"] * items
        return lambda: _pool(url, "plan", leaves, "conclude", lambda text: LEAF in text)
    if case == "leaves":
        return lambda: _fan_out(url, items, "llm_query_batched", LEAF)
    if case.endswith("children"):
        return lambda: _fan_out(url, items, "rlm_query_batched", CHILD)
    if case == "100 MB":
        text = TEXT * (100_000_000 // len(TEXT))
        foxes = text.count("fox")
        return lambda: int(_root(url, text, foxes))
    return _roots(url, items)


def _roots(url: str, count: int) -> Callable[[], int]:
    """Fork a process for each root: in threads of one, some of them fail."""
    pool = multiprocessing.get_context("fork").Pool(count)

    def work() -> int:
        asked = [(url, f"fox {number} " * 200, 200) for number in range(count)]
        right = sum(pool.starmap(_root, asked, chunksize=1))
        pool.close()
        pool.join()
        return right

    return work


def run_one(peer: str, case: str, url: str, out: Path) -> None:
    """Do it once, in the peers' environment. What it found goes into a file: the library takes standard output away."""
    if peer == "official":
        _root(url, "a fox", 1)
    else:
        _pool(url, "", ["a fox"] * THREADS, "", bool)
    work = _work(peer, case, url)
    before, started = os.times(), time.perf_counter()
    right = work()
    seconds, after = time.perf_counter() - started, os.times()
    cpu_s = sum(after[:4]) - sum(before[:4])
    out.write_text(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "right": right}))
    os._exit(0)  # threads that hang do not keep it


def _run(command: list[str], limit_s: float) -> str:
    """Run it with all that it forks; returns why it failed, or nothing."""
    direct = os.environ | {"NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=direct, start_new_session=True)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"not done in {limit_s:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"ended with {code}" if code else ""


def measure(peer: str, case: str, runs: int, limit_s: float) -> list[figures.Figure]:
    """Run it several times, each in a process of its own; a run that fails is the last."""
    from peers_environment import peers_python

    from rlm_ray.testing import ServerProcess

    work, by, found = WORK[peer][case], peer, []
    script = "peer_work:official_model" if peer == "official" else "recursion"
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(["--script", script, "--latency-s", str(work.latency_s)]) as server,
    ):
        out = Path(folder) / "run.json"
        for _ in range(runs):
            out.unlink(missing_ok=True)
            command = [peers_python(), __file__, peer, "--one", case, server.url, str(out)]
            failed = _run(command, limit_s)
            if not failed and not out.exists():
                failed = "ended without a result"
            run = json.loads(out.read_text()) if out.exists() else {}
            if run and run["right"] < work.items:
                failed = f"{run['right']} of {work.items} right after {run['seconds']:.1f} s"
            if failed:
                return [figures.Figure("time", work.name, by, None, "s", failed=failed)]
            found.append(run)
    seconds = [run["seconds"] * work.scale for run in found]
    told = [figures.median_figure("time", work.name, by, seconds, "s")]
    if work.unit:
        cpu_ms = [1000 * run["cpu_s"] / work.items for run in found]
        told.append(figures.median_figure("cpu", work.unit, by, cpu_ms, "ms"))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=sorted(WORK))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--limit-s", type=float, default=60.0, help="for a run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case, url, out = options.one
        run_one(options.peer, case, url, Path(out))
        return
    found = []
    for case in WORK[options.peer]:
        if options.only and case not in options.only:
            continue
        for figure in measure(options.peer, case, options.runs, options.limit_s):
            each = " ".join(f"{run:.2f}" for run in figure.runs)
            said = figure.failed or f"{figure.value:.2f} {figure.unit}  {each}"
            print(
                f"{figure.work if figure.table == 'time' else 'CPU of a ' + figure.work:45} {said}",
                flush=True,
            )
            found.append(figure)
    figures.write_figures(options.json, found)


if __name__ == "__main__":
    main()
