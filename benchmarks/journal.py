"""What the record of a run costs it: one map of 500 plain calls with and without a run folder, in turn.

python benchmarks/journal.py [--leaves 500] [--pairs 10]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

from tracing import ask  # a sibling benchmark

from rlm_ray.testing import ServerProcess


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leaves", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
    ratios = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(["--script", "recursion", "--latency-s", "0.2"]) as server,
    ):
        for pair in range(options.pairs + 1):  # the first pair warms caches
            run_dirs = ["", folder] if pair % 2 else [folder, ""]
            took = {run_dir: ask(server.url, options.leaves, run_dir)[0] for run_dir in run_dirs}
            if pair:
                ratios.append(took[folder] / took[""])
                print(f"without {took['']:.2f} s, with a journal {took[folder]:.2f} s", flush=True)
    print(f"median of {options.pairs} pairs: {statistics.median(ratios):.3f} times as long with a journal")


if __name__ == "__main__":
    main()
