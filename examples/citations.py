"""Have the words that an answer rests on: the engine itself looks for them in the context, so they do stand there.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/citations.py
"""

from scripted import model_or_script

from rlm_ray import RLM

DOCUMENTS = [
    {"id": "harbour.txt", "text": "The harbour opened in 1907. It was closed in 1954 after the great flood."},
    {"id": "town.txt", "text": "The town has 4,000 inhabitants. Most of them once worked at the harbour."},
]
# Offline the model is a script. Its first quote is not in the text: `cite` refuses it and names what is near.
SCRIPT = [
    "```python\ncite('The harbour was opened in 1908')\n```",
    "```python\ncite('The harbour opened in 1907.')\ncite('closed in 1954')\nFINAL('From 1907 until 1954.')\n```",
]


def main() -> None:
    with model_or_script(SCRIPT) as model:
        result = RLM(model, citations="required").run("When was the harbour open?", DOCUMENTS)
    print(result.answer)
    for cited in result.citations:
        print(f"  {cited.quote!r} ({cited.place})")


if __name__ == "__main__":
    main()
