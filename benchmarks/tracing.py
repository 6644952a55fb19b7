"""What tracing costs a run, and what a dead collector costs it.

One map of 10,000 plain calls to a model server on loopback, with and without a collector in turn; then runs whose
collector is a port nobody listens on, or accepts and never answers: how long the run takes, and the process to end.

    python benchmarks/tracing.py [--leaves 10000] [--pairs 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlm_ray import RLM, Cluster
from rlm_ray.testing import ServerProcess
from rlm_ray.testing.otlp_receiver import OtlpReceiver
from rlm_ray.testing.responses import run_query
from rlm_ray.tracing.exporters import flush

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
CLUSTER = Cluster(min_actors=2, max_actors=2, sessions_per_actor=512)
LATENCY_S = 0.05


class Collector:
    """A collector in a process of its own, so that decoding spans does not slow the driver down."""

    def __init__(self, *, hang: bool = False) -> None:
        command = [sys.executable, __file__, "--collector", *(["--hang"] if hang else [])]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.url: str = self._line()["url"]

    def received(self) -> dict[str, int]:
        """What came since it was asked last."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, int] = self._line()
        return found

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def collect(*, hang: bool) -> None:
    """The collector's process: a line of figures for each line it is sent."""
    with OtlpReceiver(hang=hang) as receiver:
        print(json.dumps({"url": receiver.url}), flush=True)
        for _ in sys.stdin:
            spans = receiver.spans
            maps = [span for span in spans if span.name == "recursive_map"]
            figures = {
                "spans": len(spans),
                "leaves": sum(span.attributes.get("rlm.role") == "leaf" for span in spans),
                "kept": sum(span.attributes["rlm.map.kept"] for span in maps),
                "counted": sum(span.attributes["rlm.map.calls"] for span in maps),
                "roots": sum(not span.parent_id for span in spans),
            }
            receiver.clear()
            print(json.dumps(figures), flush=True)


@contextmanager
def traced_to(url: str | None) -> Iterator[None]:
    """The environment names this collector, or none; a run reads it when it begins."""
    before = os.environ.pop(ENDPOINT, None)
    if url is not None:
        os.environ[ENDPOINT] = url
    try:
        yield
    finally:
        os.environ.pop(ENDPOINT, None)
        if before is not None:
            os.environ[ENDPOINT] = before


def ask(server: str, leaves: int, folder: str) -> tuple[float, float]:
    """Seconds of one run with one map of so many leaves, and of this process's CPU meanwhile."""
    pieces = f"[context[i:i+50] for i in range(0, {50 * leaves}, 50)]"
    program = f"a = recursive_map('what is it?', {pieces}); assert len(a) == {leaves}; print(a[0])"
    context = "The quick brown fox jumps over the lazy dog. " * (leaves * 50 // 45 + 1)
    rlm = RLM(
        deduplicate_maps=False,
        direct_call_below_chars=0,
        model="openai/benchmark",
        api_base=server,
        api_key="none",
        cluster=CLUSTER,
        run_dir=folder,
    )
    started, cpu = time.perf_counter(), time.process_time()
    result = rlm.run(run_query(program), context)
    took = time.perf_counter() - started, time.process_time() - cpu
    assert result.answer == "session done", result
    return took


def overhead(leaves: int, pairs: int, folder: str) -> dict[str, Any]:
    """Runs without and with a collector in turn; the first pair warms caches."""
    off: list[tuple[float, float]] = []
    on: list[tuple[float, float]] = []
    received = []
    collector = Collector()
    with ServerProcess(["--script", "recursion", "--latency-s", str(LATENCY_S)]) as server:
        for pair in range(pairs + 1):
            with traced_to(None):
                off.append(ask(server.url, leaves, folder))
            with traced_to(collector.url):
                on.append(ask(server.url, leaves, folder))
            assert flush(30)
            received.append(collector.received())
            figures = f"{off[-1][0]:.2f} s off, {on[-1][0]:.2f} s on; driver's CPU {off[-1][1]:.2f} and {on[-1][1]:.2f} s"
            print(f"pair {pair}: {figures}; {received[-1]}", flush=True)
    collector.close()
    for one in received:
        assert one["counted"] == leaves, one
        assert one["leaves"] == one["kept"], one
        assert one["roots"] == 1, one
    ratios = [traced / plain for (plain, _), (traced, _) in zip(off[1:], on[1:], strict=True)]
    return {
        "leaves": leaves,
        "off_s": statistics.median(seconds for seconds, _ in off[1:]),
        "on_s": statistics.median(seconds for seconds, _ in on[1:]),
        "off_cpu_s": statistics.median(cpu for _, cpu in off[1:]),
        "on_cpu_s": statistics.median(cpu for _, cpu in on[1:]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "leaf_spans": received[-1]["leaves"],
        "accounted": received[-1]["counted"],
    }


def beside_a_live_one(leaves: int, rounds: int, folder: str) -> dict[str, float]:
    """Seconds of a run, medians of rounds in turn: what a dead collector costs beyond what tracing costs anyway."""
    live, hanging = Collector(), Collector(hang=True)
    urls = {
        "none": None,
        "live": live.url,
        "nobody listens": f"http://127.0.0.1:{_dead_port()}",
        "hangs": hanging.url,
    }
    took: dict[str, list[float]] = {name: [] for name in urls}
    with ServerProcess(["--script", "recursion", "--latency-s", str(LATENCY_S)]) as server:
        ask(server.url, leaves, folder)
        for _ in range(rounds):
            for name, url in urls.items():
                with traced_to(url):
                    took[name].append(ask(server.url, leaves, folder)[0])
    live.close()
    hanging.close()
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    print(", ".join(f"{name}: {seconds:.2f} s" for name, seconds in medians.items()), flush=True)
    return medians


def _dead_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def dead(leaves: int, folder: str) -> list[dict[str, Any]]:
    """Whole processes with a collector that is alive in no way: time of the run, and from its end to the exit."""
    hanging = Collector(hang=True)
    refusing = f"http://127.0.0.1:{_dead_port()}"
    rows = []
    with ServerProcess(["--script", "recursion", "--latency-s", str(LATENCY_S)]) as server:
        for name, url in (("none", None), ("nobody listens", refusing), ("hangs", hanging.url)):
            rows.append({"collector": name, **one_process(server.url, url, leaves, folder)})
            row = rows[-1]
            print(
                f"collector {name:15}: run {row['run_s']:.2f} s, exit {row['exit_s']:.2f} s, {row['log']}",
                flush=True,
            )
    hanging.close()
    return rows


def one_process(server: str, url: str | None, leaves: int, folder: str) -> dict[str, Any]:
    with traced_to(url):
        done = subprocess.run(
            [sys.executable, __file__, "--one", server, "--leaves", str(leaves), "--folder", folder],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    ended = time.time()
    figures = json.loads(done.stdout.splitlines()[-1])
    lines = [line for line in done.stderr.splitlines() if "cannot be sent" in line]
    return {"run_s": figures["run_s"], "exit_s": ended - figures["at"], "log": f"{len(lines)} warning lines"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leaves", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--collector", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hang", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collector:
        collect(hang=options.hang)
    elif options.one:
        ask(options.one, 10, options.folder)  # starts Ray, warms the model client
        took, _ = ask(options.one, options.leaves, options.folder)
        print(json.dumps({"run_s": took, "at": time.time()}))
    else:
        with tempfile.TemporaryDirectory() as folder:
            figures = overhead(options.leaves, options.pairs, folder) if options.pairs else {}
            if options.pairs:
                print(f"median of {options.pairs} pairs: {figures['ratio']:.3f} times as long with tracing")
            figures["beside a live one"] = beside_a_live_one(min(1000, options.leaves), 9, folder)
            import ray

            ray.shutdown()  # the processes below start Ray for themselves
            figures["dead"] = dead(min(500, options.leaves), folder)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
