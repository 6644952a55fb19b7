"""How long the first answer takes, beside the least that Ray itself takes, in pairs; and the second answer of a process.

    python benchmarks/start.py [--pairs 5] [--up] [--json FILE]

`ask` is `rlm-ray ask` with the offline model, `served` the same with a model behind HTTP on loopback; `bare` is a program of
`ray.init`, one actor and one call. Each is a process of its own, one after the other, and with all it started it has ended
before the next begins. Wall seconds are from its start to its end; CPU seconds are of it and of every process below it, which
this one adopts and reaps (Linux). `--up` asks a cluster that `rlm-ray up` keeps.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from figures import Figure, median_figure, write_figures

PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
RLM_RAY = str(Path(sys.executable).with_name("rlm-ray"))
BOOK = str(Path(__file__).parents[1] / "examples" / "frankenstein.txt")
QUESTION = "Who is Walton writing to?"
WORK: dict[str, tuple[str, float | None]] = {
    "bare": ("bare `ray.init`, one actor, one call", None),
    "ask": ("`rlm-ray ask`, offline model", 1.5),
    "served": ("`rlm-ray ask`, model behind HTTP", 2.0),
    "twice": ("the second question of a process, offline model", None),
}
"""What each is called, and how many times the bare one it is to take at most."""
BARE = """
import ray
ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
@ray.remote
class Answer:
    def give(self): return "an answer"
print(ray.get(Answer.remote().give.remote()))
"""
TWICE = """
import sys, time
from rlm_ray import RLM
text = open(sys.argv[1]).read()
for _ in range(3):
    began = time.monotonic()
    assert RLM("offline/extractive").completion(sys.argv[2], text)
    print(round(time.monotonic() - began, 3))
"""


def main() -> None:
    """Print the medians, as a table and with what each process took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--up", action="store_true")
    parser.add_argument("--only", nargs="*", help="of bare, ask, served, twice")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(json.loads(given.measure))))
        return
    from rlm_ray.testing import ModelServer

    with ModelServer(lambda _: 'FINAL("to his sister")') as server, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RLM_RAY_RUN_DIR": folder}
        served = ["--model", "openai/served", "--api-base", server.url, "--api-key", "any"]
        commands = {
            "bare": [sys.executable, "-c", BARE],
            "ask": [RLM_RAY, "ask", "-q", QUESTION, BOOK, "--model", "offline/extractive"],
            "served": [RLM_RAY, "ask", "-q", QUESTION, BOOK, *served],
            "twice": [sys.executable, "-c", TWICE, BOOK, QUESTION],
        }
        commands = {name: command for name, command in commands.items() if name in (given.only or commands)}
        if given.up:
            subprocess.run([RLM_RAY, "up"], check=True)
        try:
            measured = [
                {name: measured_alone(command) for name, command in commands.items()}
                for _ in range(given.pairs)
            ]
        finally:
            if given.up:
                subprocess.run([RLM_RAY, "down"], check=True)
    write_figures(given.json, report(measured, up=given.up))


def measured_alone(command: list[str]) -> dict[str, Any]:
    """Measure a command from a process that has no other children."""
    arguments = [sys.executable, __file__, "--measure", json.dumps(command)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(command: list[str]) -> dict[str, Any]:
    """Run a command and wait for it and all that it started: its wall seconds, and CPU seconds by process."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.readline()
    first_line_s = time.monotonic() - began
    cpu: dict[str, float] = defaultdict(float)
    wall_s = 0.0
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            break
        assert ended is not None
        name, seconds = _cpu_of(ended.si_pid)
        if ended.si_pid == process.pid:
            wall_s, name = time.monotonic() - began, "driver"
            printed += process.stdout.read()
            process.stdout.close()
        cpu[name] += seconds
        _, status = os.waitpid(ended.si_pid, 0)
        if ended.si_pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return {"wall_s": wall_s, "first_line_s": first_line_s, "cpu": dict(cpu), "printed": printed[:200]}


def _cpu_of(pid: int) -> tuple[str, float]:
    """Return the name of a process that has ended, and the CPU seconds of it and of what it has waited for itself."""
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    return name, sum(map(int, stat.rsplit(")", 1)[1].split()[11:15])) / TICKS


def report(measured: list[dict[str, dict[str, Any]]], *, up: bool) -> list[Figure]:
    """Print the medians, and return them; ratios are the medians of those of the pairs."""
    figures = []
    print(f"{'':8}{'wall s':>8}{'CPU s':>8}{'wall/bare':>11}{'CPU/bare':>10}   CPU by process")
    for name in measured[0]:
        rows = [each[name] for each in measured]
        walls, cpus = [row["wall_s"] for row in rows], [sum(row["cpu"].values()) for row in rows]
        bare = [each["bare"] for each in measured] if "bare" in measured[0] else rows
        wall_ratios = [w / b["wall_s"] for w, b in zip(walls, bare, strict=True)]
        cpu_ratios = [c / sum(b["cpu"].values()) for c, b in zip(cpus, bare, strict=True)]
        names = dict.fromkeys(process for row in rows for process in row["cpu"])
        shares = {p: statistics.median(row["cpu"].get(p, 0.0) for row in rows) for p in names}
        said = ", ".join(
            f"{p} {s:.1f}" for p, s in sorted(shares.items(), key=lambda item: -item[1]) if s >= 0.1
        )
        print(
            f"{name:8}{statistics.median(walls):8.2f}{statistics.median(cpus):8.2f}{statistics.median(wall_ratios):11.2f}{statistics.median(cpu_ratios):10.2f}   {said}"
        )
        work, reach = WORK[name]
        work = f"{work}, after `rlm-ray up`" if up and name != "bare" else work
        if name == "twice":
            seconds = [float(row["printed"].split()[1]) for row in rows]
            figures.append(median_figure("start", work, "wall s", seconds, "s"))
            print(f"{'':8}answers after {[row['printed'].split() for row in rows]} s")
            continue
        figures += [
            median_figure("start", work, "wall s", walls, "s"),
            median_figure("start", work, "CPU s", cpus, "s"),
        ]
        if "bare" in measured[0]:
            figures += [
                median_figure("start", work, "times the bare one", wall_ratios, "", reach=reach),
                median_figure("start", work, "CPU, times", cpu_ratios, ""),
            ]
    print(json.dumps(measured))
    return figures


if __name__ == "__main__":
    main()
