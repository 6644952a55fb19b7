"""Ask one question after the other about the same text, in one REPL that keeps its variables.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/conversation.py
"""

import os
from pathlib import Path

from rlm_ray import RLM

BOOK = Path(__file__).with_name("frankenstein.txt")


def main() -> None:
    rlm = RLM(model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"))
    with rlm.conversation(BOOK) as conversation:
        print(conversation.ask("Who is Clerval?"))
        print("\n---\n")
        print(conversation.ask("And how does he die?"))
        run_id = conversation.run_id

    with rlm.conversation(BOOK, run_id=run_id) as later:  # another day: it knows what was said
        print("\n---\n")
        print(later.ask("Who finds him?"))


if __name__ == "__main__":
    main()
