"""Get an instance of a pydantic model instead of a text; an answer that does not match goes back to the model.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/typed_answers.py
"""

from pydantic import BaseModel, Field
from scripted import model_or_script

from rlm_ray import RLM

LETTER = "Dear Ann, the invoice of 3 May over 1,240.50 euros is still open. Please pay by 1 June. Bob Hill, Hill & Sons"


class Invoice(BaseModel):
    sender: str
    amount: float = Field(gt=0)
    due: str


# Offline the model is a script that answers wrongly at first, to show what becomes of that.
SCRIPT = [
    "```python\nprint(context)\n```",
    "```python\nFINAL({'sender': 'Hill & Sons', 'amount': 'much', 'due': '1 June'})\n```",
    "```python\nFINAL({'sender': 'Hill & Sons', 'amount': 1240.50, 'due': '1 June'})\n```",
]


def main() -> None:
    with model_or_script(SCRIPT) as model:
        invoice = RLM(model).completion("Who wants how much, until when?", LETTER, schema=Invoice)
    print(repr(invoice))
    print(f"to pay: {invoice.amount:.2f}")


if __name__ == "__main__":
    main()
