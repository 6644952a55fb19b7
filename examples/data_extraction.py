"""Pull facts out of notes: several questions about one text, side by side, as one run with one budget.

    RLM_RAY_MODEL=openai/gpt-5-mini python examples/data_extraction.py

typed_answers.py does it with a schema that every answer has to match.
"""

import os

from rlm_ray import RLM

NOTES = """
Product planning, 15 January 2025. Present: Sarah Chen, Mike Johnson, Lisa Park.

Sarah asked to raise the budget of the first quarter to $250,000. Customer satisfaction went from 7.5 to 8.9.

Mike plans to ship search on 15 February and offline mode on 30 March, and needs 3 more engineers for that.

Lisa reported 125,000 visitors in a month, up 45%. Customers asked most for dark mode (134 of them) and faster loading (45).

Action items: Sarah approves the budget by 20 January. Mike posts the job listings. Lisa starts the campaign on 1 February.
"""
QUESTIONS = [
    "Which dates are mentioned?",
    "Which action items are there, and whose are they?",
    "What did customers ask for most?",
]


def main() -> None:
    model = os.environ.get("RLM_RAY_MODEL", "offline/extractive")
    rlm = RLM(model=model, temperature=None if model.startswith("openai/gpt-5") else 0.0)
    for question, result in zip(QUESTIONS, rlm.map(QUESTIONS, [NOTES] * len(QUESTIONS)), strict=True):
        print(f"\n{question}\n{result.answer if result.answered else result.why}")


if __name__ == "__main__":
    main()
