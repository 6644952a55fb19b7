"""Follow a run: every record as it is written, the answer while the model writes it, and the result at the end.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/streaming.py
"""

import os
from pathlib import Path

from rlm_ray import RLM, AnswerDelta, AnswerRestarted, Result
from rlm_ray.events.records import CallEnded, CellEnded

BOOK = Path(__file__).with_name("frankenstein.txt")


def main() -> None:
    rlm = RLM(model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"))
    for event in rlm.stream(
        "Where does the monster hide?", BOOK
    ):  # in an event loop: async for ... in rlm.astream(...)
        match event:
            case CallEnded():
                print(f"a call at depth {len(event.path)}: {event.usage.output_tokens} tokens written")
            case CellEnded():
                print(f"turn {event.turn} has run its code")
            case AnswerDelta(text):
                print(text, end="", flush=True)
            case AnswerRestarted():
                print("\n(that was no answer; it begins anew)")
            case Result():
                print(f"\n\n{event.stop_reason} after {event.seconds:.1f} s")


if __name__ == "__main__":
    main()
