"""Ask about a book that is longer than most windows; it stays out of the prompt, and pieces of it are read in parallel.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/long_document.py
"""

import os
from pathlib import Path

from rlm_ray import RLM, Limits

BOOK = Path(__file__).with_name("frankenstein.txt")
QUESTIONS = [
    "How does the creature learn to speak and read?",
    "Who is Justine, and what happens to her?",
]


def main() -> None:
    model = os.environ.get("RLM_RAY_MODEL", "offline/extractive")
    rlm = RLM(model=model, max_iterations=20, limits=Limits(cost_usd=1.0, time_s=600))
    print(f"{len(BOOK.read_text('utf-8')):,} characters")
    for question in QUESTIONS:
        print(f"\nQuestion: {question}")
        print(rlm.completion(question, BOOK))  # a pathlib.Path is read: text, PDF, folder ...
        stats = rlm.stats
        print(f"({stats['llm_calls']} model calls, {stats['iterations']} turns)")


if __name__ == "__main__":
    main()
