"""All that `make bench` measures, with the peers in the same run: one table, JSON and a plot beside it.

    python benchmarks/table.py [--quick] [--only PART ...] [--out FOLDER]

Each part is a benchmark in a process of its own, one after the other; what is done is saved at once, so `--only` does
a part again and leaves the others as they are. `results.json`, `results.svg` and the section of `README.md` that is
made of them are in FOLDER, this one if nothing else is said. What `scale.py` has left in `scale.json` there is made a
table, too. A peer that fails or does not end is a line of the table; ends with 1 if a part could not be measured at all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers_environment import locked_version
from render import BEGIN_SCALE, QUIET_CORES, render, render_plot, render_scale, with_section

HERE = Path(__file__).parent
PART_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark: a script of this folder, what it is asked to do, and what instead by `--quick`."""

    script: str
    options: str
    quick: str


PARTS = {
    "recursion": Part("recursion.py", "--runs 5", "--runs 2"),
    "official": Part("peer_work.py", "official --runs 3", "official --runs 1"),
    "threads": Part("peer_work.py", "threads --runs 3", "threads --runs 1"),
    "batch": Part("batch.py", "--rows 5000 --beside 1000", "--rows 2000 --beside 500"),
    "model_call": Part("model_call.py", "--calls 2000", "--calls 500"),
    "serve": Part("serve.py", "--chats 50 200 --rounds 3", "--chats 50 200 --rounds 1"),
    "start": Part("start.py", "--pairs 3", "--pairs 1"),
    "up": Part("start.py", "--up --only ask --pairs 3", "--up --only ask --pairs 1"),
}
"""In the order of the table."""


def main() -> None:
    """Measure, save, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--render", action="store_true", help="measure nothing, make plot and README again")
    options = parser.parse_args()
    path = options.out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    began, failed = time.monotonic(), []
    if not options.render:
        if results.get("machine") != machine():
            results = {
                "machine": machine(),
                "parts": {},
            }  # figures of another machine are no part of this table
        for name in (name for name in PARTS if name in options.only):
            results["parts"][name] = part = measure(name, quick=options.quick)
            results["parts"] = {name: results["parts"][name] for name in PARTS if name in results["parts"]}
            failed += [name] * bool(part["failed"])
            path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    save(results, options.out)
    print(f"\n{render(results)}\n\n{time.monotonic() - began:.0f} s; saved in {path}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def measure(name: str, *, quick: bool) -> dict[str, Any]:
    """Run a part; what it prints is seen, what it says is in the result."""
    part = PARTS[name]
    others = others_cores()
    print(f"\n{name} ({time.strftime('%H:%M:%S')}, {others:.1f} cores busy with other work)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        arguments = (part.quick if quick else part.options).split()
        command = [sys.executable, str(HERE / part.script), *arguments, "--json", str(out)]
        began = time.monotonic()
        failed = run(command)
        figures = json.loads(out.read_text("utf-8")) if out.exists() else []
    if not figures:
        failed = failed or "it told no figure"
    return {
        "at": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "took_s": round(time.monotonic() - began, 1),
        "others_cores": round(others, 2),
        "quick": quick,
        "failed": failed,
        "figures": [] if failed else figures,
    }


def run(command: Sequence[str]) -> str:
    """Run a benchmark to its end; returns why it failed, in a line, or nothing."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        try:
            done = subprocess.run(command, stderr=errors, check=False, timeout=PART_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return f"not done in {PART_TIMEOUT_S:.0f} s"
        if not done.returncode:
            return ""
        errors.seek(0)
        said = [line for line in errors.read().splitlines() if line.strip()]
    print(*said[-30:], sep="\n", file=sys.stderr, flush=True)
    return f"exit {done.returncode}: {said[-1][:200] if said else ''}"


def save(results: dict[str, Any], folder: Path) -> None:
    """Write the plot, and the README where the folder has one."""
    (folder / "results.svg").write_text(render_plot(results), "utf-8")
    readme, scale = folder / "README.md", folder / "scale.json"
    if readme.exists():
        text = with_section(readme.read_text("utf-8"), render(results))
        if scale.exists():
            text = with_section(text, render_scale(json.loads(scale.read_text("utf-8"))), BEGIN_SCALE)
        readme.write_text(text, "utf-8")


def machine() -> dict[str, Any]:
    """Say what the figures were measured on and with."""
    cpus = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory_kb = int(_lines("/proc/meminfo")[0].split()[1])
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpus[0].partition(":")[2].strip() if cpus else platform.machine(),
        "memory_gb": round(memory_kb / 1e6),
        "Python": platform.python_version(),
        "Ray": version("ray"),
        "rlms": locked_version("rlms"),
        "openai": locked_version("openai"),
    }


def commit() -> str:
    """Return the commit, with a plus where files of the package or the benchmarks differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--abbrev=7"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    changed = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", "../rlm_ray", "*.py"], cwd=HERE, check=False
    )
    return found.stdout.strip() + "+" * bool(changed.returncode) if not found.returncode else "unknown"


def others_cores(seconds: float = 1.0, tries: int = 8) -> float:
    """Measure how many cores are busy while nothing of ours runs: the least of some times, as the part before may still end."""
    least = float(os.cpu_count() or 1)
    for _ in range(tries):
        before, began = _busy_ticks(), time.monotonic()
        time.sleep(seconds)
        busy = (_busy_ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
        least = min(least, busy)
        if least < QUIET_CORES:
            break
    return least


def _busy_ticks() -> int:
    ticks = [int(word) for word in _lines("/proc/stat")[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4]  # all but idle and waiting for a disk


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


if __name__ == "__main__":
    main()
