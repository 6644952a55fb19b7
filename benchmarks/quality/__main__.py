"""Measure how many questions a model answers right, by each method.

    make quality MODEL=openai/x BASE=http://127.0.0.1:8000/v1 [TASKS="log_*@20k csv_sum"] [METHODS="direct ours official"] [TIME=300]

`--list` shows the kinds of tasks. Cells on record are not run again: the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

from quality.endpoint import ModelAddress
from quality.kinds import KINDS
from quality.methods import parse_methods
from quality.run import QualityRun, RunOptions
from quality.task import select_tasks


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="quality", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", help="as litellm names it; with --base, what follows the first / is sent")
    parser.add_argument("--base", default="", help="an OpenAI-compatible address ending in /v1")
    parser.add_argument(
        "--tasks", default="*", help="kind[@size] patterns; default: every kind, at 20k or above"
    )
    parser.add_argument("--methods", default="direct ours official mapreduce", help="KIND[:KEY=VALUE]...")
    parser.add_argument("--time", type=float, default=300.0, help="seconds for one cell")
    parser.add_argument("--seed", type=int, default=0, help="other tasks of the same kinds")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once")
    parser.add_argument("--out", type=Path, help="default: quality-results/MODEL")
    parser.add_argument(
        "--params",
        type=json.loads,
        default={"temperature": 0},
        help='JSON for every call; default {"temperature": 0}',
    )
    parser.add_argument("--price", type=float, nargs=2, help="US dollars for a million tokens in and out")
    parser.add_argument("--key-variable", default="", help="the environment variable with the key for --base")
    parser.add_argument("--retry-failed", action="store_true", help="run failed cells again")
    parser.add_argument(
        "--retry-timeouts", action="store_true", help="run cells again that had not enough time"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="ask the model again what it was asked before"
    )
    parser.add_argument("--report-only", action="store_true", help="run nothing, write the report anew")
    parser.add_argument("--list", action="store_true", help="show the kinds of tasks, and end")
    options = parser.parse_args()
    if options.list:
        for kind in KINDS.values():
            print(f"{kind.name:16} {kind.asks:42} {' '.join(kind.sizes)}")
        return
    if not options.model:
        parser.error(
            "--model is needed; with make: make quality MODEL=openai/x BASE=http://127.0.0.1:8000/v1"
        )
    try:
        tasks, methods = select_tasks(options.tasks, KINDS, options.seed), parse_methods(options.methods)
    except ValueError as error:
        sys.exit(f"quality: {error}")
    key = os.environ.get(options.key_variable, "none")
    price = tuple(options.price) if options.price else None
    address = ModelAddress(options.model, options.base.rstrip("/"), key, options.params, price)
    out = options.out or Path("quality-results") / re.sub(r"[^\w.-]+", "_", options.model)
    run = QualityRun(
        out,
        address,
        tasks,
        methods,
        RunOptions(
            options.time, options.jobs, options.retry_failed, options.retry_timeouts, not options.no_cache
        ),
    )
    if not options.report_only:
        run.run()
    print(run.write_report())


if __name__ == "__main__":
    main()
