"""Go on with a run that stopped: what is on record is not paid again.

    RLM_RAY_MODEL=openai/gpt-5-mini python examples/resume.py

Here a limit stops it. After a kill, a crash or a lost machine it goes on just the same.
"""

import os
from pathlib import Path

from rlm_ray import RLM, Limits

BOOK = Path(__file__).with_name("frankenstein.txt")


def main() -> None:
    model = os.environ.get("RLM_RAY_MODEL", "offline/extractive")
    stopped = RLM(model=model, limits=Limits(calls=3)).run("What does Victor study at Ingolstadt?", BOOK)
    print(f"{stopped.stop_reason}: {stopped.why} ({stopped.usage.total.calls} calls)")

    done = RLM.resume(stopped.run_id, BOOK, limits={"calls": 100})  # on the command line: rlm-ray resume last
    print(
        f"\n{done.answer}\n\n{done.stop_reason}; {done.usage.total.calls} calls in all, {done.usage.repaid_calls} paid twice"
    )


if __name__ == "__main__":
    main()
