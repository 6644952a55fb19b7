"""Ask every document the same, in parallel, and put the answers together in code: a plan, without code of the model's.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/map_reduce.py
"""

import json
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from scripted import model_or_script

from rlm_ray import RLM
from rlm_ray.testing import Request

FOLDER = Path(__file__).with_name("peps")


class Proposal(BaseModel):
    status: Literal["Final", "Rejected", "Withdrawn", "Active", "Deferred", "Superseded"]


def script(request: Request) -> str:
    """Answer as a model would that reads the head of each document (offline)."""
    found = re.search(r"^Status: (\w+)", request.last, re.MULTILINE)
    return json.dumps({"status": found[1] if found else "Active"})


def main() -> None:
    with model_or_script(script) as model:
        counted = RLM(model).map_reduce(
            "What is the status of this proposal?", FOLDER, schema=Proposal, reduce="count:status", pack=False
        )
    print(counted.value)
    for line in counted.origin.lines():  # which documents each number comes from
        print(line)


if __name__ == "__main__":
    main()
