"""Ask one question about each row of a dataframe, and have the dataframe back with the answers.

    RLM_RAY_MODEL=openai/gpt-5-mini python examples/batch_rows.py

The same works for polars, Arrow tables, ray.data.Dataset, lists of dicts, and files (then `out=` names where the answers go).
"""

import os
from pathlib import Path

import pandas as pd

from rlm_ray import RLM

FOLDER = Path(__file__).with_name("peps")


def main() -> None:
    paths = sorted(FOLDER.glob("pep-02*.txt"))
    frame = pd.DataFrame(
        {"pep": [int(path.stem[4:]) for path in paths], "text": [path.read_text() for path in paths]}
    )
    frame["kind"] = pd.Categorical(["small" if len(text) < 4_500 else "large" for text in frame["text"]])

    rlm = RLM(model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"))
    answered = rlm.batch("What does PEP {pep} propose?", frame)  # with out="answers": goes on after a kill
    print(answered.dtypes[["pep", "kind", "answer", "calls"]])  # its own columns are as they were
    for row in answered.itertuples():
        print(f"PEP {row.pep} ({row.kind}): {row.stop_reason}, {len(str(row.answer)):,} characters")


if __name__ == "__main__":
    main()
