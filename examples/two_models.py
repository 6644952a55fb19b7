"""Let a strong model plan and a cheap one read: `recursive_model` answers all sub-calls.

RLM_RAY_MODEL=openai/gpt-5 python examples/two_models.py  # and RLM_RAY_RECURSIVE_MODEL=openai/gpt-5-mini
"""

import os
from pathlib import Path

from rlm_ray import RLM

BOOK = Path(__file__).with_name("frankenstein.txt")


def main() -> None:
    model = os.environ.get("RLM_RAY_MODEL", "offline/extractive")
    rlm = RLM(model=model, recursive_model=os.environ.get("RLM_RAY_RECURSIVE_MODEL"))  # None: the same one
    result = rlm.run("What does the creature ask its maker for?", BOOK)
    print(result.answer)
    for depth, used in result.usage.by_depth.items():
        role = "planned" if depth == 0 else "read"
        print(f"depth {depth} ({role}): {used.calls} calls, {used.tokens:,} tokens, ${used.cost_usd:.4f}")


if __name__ == "__main__":
    main()
