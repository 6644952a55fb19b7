"""Ask the same about every file of a folder, over all nodes of a cluster, into a file that a killed batch goes on with.

    ray start --head --port 6379              # on the first machine; `ray start --address FIRST:6379` on the others
    RAY_ADDRESS=FIRST:6379 RLM_RAY_MODEL=openai/gpt-5-mini python examples/batch_on_a_cluster.py peps.jsonl s3://bucket/answers.jsonl

Without RAY_ADDRESS, and where `ray start` left none, Ray is started on this machine; without a model the offline one answers.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from rlm_ray import RLM, Limits, Rates

FOLDER = Path(__file__).with_name("peps")


def rows_file(folder: str) -> str:
    """The rows: a file with one JSON object a line."""
    path = Path(folder, "peps.jsonl")
    rows = [{"id": file.stem, "text": file.read_text()} for file in sorted(FOLDER.glob("pep-*.txt"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def main(source: str = "", out: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        rlm = RLM(
            model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"),
            rates=Rates(rpm=3_000, tpm=2_000_000),  # of the account, for all nodes together
            limits=Limits(calls=10_000),  # of the whole batch
            tenant="batch",  # one place in the queue beside what others ask on this cluster
        )
        summary = rlm.batch(
            "What does {id} propose?", source or rows_file(folder), out=out or f"{folder}/answers.jsonl"
        )
        print(summary)
        if not out:
            for line in Path(folder, "answers.jsonl").read_text().splitlines()[:2]:
                row = json.loads(line)
                print(f"{row['id']}: {row['stop_reason']}, {len(row['answer']):,} characters")


if __name__ == "__main__":
    main(*sys.argv[1:3])
