"""Check on your model what `recursive-llm` claims: counting and filtering in 60k to 1M tokens, one direct call against RLM.

    RLM_RAY_MODEL=openai/gpt-5-mini python examples/seed_claims.py
    LLAMA_URL=http://127.0.0.1:8080/v1 python examples/seed_claims.py 3000 60000  # llama.cpp with -c 16384; sizes in tokens

Its README says of GPT-5-mini: at 60k tokens RLM has 4 of 5 right and a direct call none; above 150k tokens RLM still works; RLM uses
2-3k tokens for a question and a direct call more than 95k. Offline both play a script: that shows the program, not a model.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from scripted import model_or_script

from rlm_ray import RLM, Limits, Rates, Settings
from rlm_ray.testing import Request

SIZES = (60_000, 150_000, 1_000_000)
CHARS_PER_ROW = 45.5
CHARS_PER_TOKEN, CHARS_PER_TOKEN_QWEN = (
    2.04,
    1.41,
)  # by GPT's tokenizer, and by Qwen's: a token for each digit
NOT_SENT = "does not fit | - | - | - | -"
COLUMNS = ("order", "day", "customer", "region", "product", "quantity", "status")
COUNT, LIST = "Answer with the number only.", "Answer with their order ids only, separated by commas."
CASES: dict[str, tuple[Callable[[dict[str, Any]], bool], str]] = {  # what is true, and what a model may write
    f"How many orders of the product lamp have a quantity of at least 7? {COUNT}": (
        lambda row: row["product"] == "lamp" and row["quantity"] >= 7,
        "len([r for r in rows if r[4] == 'lamp' and int(r[5]) >= 7])",
    ),
    f"How many orders of the region Corse have the status refunded? {COUNT}": (
        lambda row: row["region"] == "Corse" and row["status"] == "refunded",
        "len([r for r in rows if r[3] == 'Corse' and r[6] == 'refunded'])",
    ),
    f"Which orders have the status disputed? {LIST}": (
        lambda row: row["status"] == "disputed",
        "', '.join(r[0] for r in rows if r[6] == 'disputed')",
    ),
    f"Which orders of the product tent have the status disputed? {LIST}": (
        lambda row: row["product"] == "tent" and row["status"] == "disputed",
        "', '.join(r[0] for r in rows if r[4] == 'tent' and r[6] == 'disputed')",
    ),
}


def draw_rows(number_of_rows: int) -> tuple[list[dict[str, Any]], str]:
    """Return orders, always the same ones for the same number, and their CSV; six of them are disputed."""
    rng, rows = Random(number_of_rows), []  # noqa: S311 - nothing secret
    for number in range(number_of_rows):
        products, regions = ("kettle", "lamp", "tent", "torch"), ("Alsace", "Bretagne", "Corse", "Provence")
        day = f"2025-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        drawn = f"C{rng.randint(1, 400):03}", rng.choice(regions), rng.choice(products), rng.randint(1, 9)
        status = rng.choice(("paid", "paid", "open", "refunded"))
        rows.append(dict(zip(COLUMNS, (f"A{100_001 + number}", day, *drawn, status), strict=True)))
    for place, row in enumerate(rng.sample(rows, 6)):
        row |= {"status": "disputed", "product": ("tent", "lamp")[place % 2]}
    return rows, "\n".join([",".join(COLUMNS), *(",".join(map(str, row.values())) for row in rows)])


def script(request: Request) -> str:
    """Answer as a model would that can program and cannot count at sight (offline)."""
    if "```python" not in f"{request.system}{request.last}":
        return "About 1,000."
    code = next(code for question, (_, code) in CASES.items() if question in request.last)
    return f"```python\nrows = [line.split(',') for line in context.splitlines()[1:]]\nFINAL({code})\n```"


@contextmanager
def model() -> Iterator[tuple[Settings, float]]:
    """Give settings with the model, and the characters of a row for each of its tokens."""
    if url := os.environ.get("LLAMA_URL"):
        rlm = RLM("openai/local", api_base=url, api_key="none", profile="short", window_tokens=16_384)
        rlm = RLM(rlm.settings, rates=Rates(in_flight=1), max_tokens=1_000, temperature=0)
        yield rlm.settings, CHARS_PER_TOKEN_QWEN
        return
    with model_or_script(script) as settings:
        yield settings, CHARS_PER_TOKEN


def window_tokens(settings: Settings) -> int:
    if settings.window_tokens or settings.model == "openai/scripted":
        return settings.window_tokens or 128_000
    import litellm  # it knows the windows of well-known models

    return int(litellm.get_model_info(settings.model)["max_input_tokens"] or 0)


def ask(rlm: RLM, question: str, text: str, truth: list[str]) -> str:
    """Return the cells of one answer: what it is, whether that is right, and what it took."""
    began = time.monotonic()
    result = rlm.run(question, text)
    seconds, said, used = time.monotonic() - began, str(result.answer), result.usage.total
    if COUNT in question:
        right = re.findall(r"\d+", said.replace(",", "")) == [str(len(truth))]
    else:
        right = sorted(re.findall(r"A\d+", said)) == truth
    shown = " ".join(said.split()).replace("|", "/")[:40] if result.answered else result.stop_reason
    return f"{shown} | {'yes' if right else 'no'} | {used.tokens:,} | {used.calls} | {seconds:.0f}"


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    took = "right | tokens | calls | s"
    print(f"| tokens | question | truth | direct | {took} | RLM | {took} |\n{'|---' * 13}|")
    with model() as (settings, chars_per_token):
        direct, rlm = (RLM(settings, max_depth=depth, limits=Limits(time_s=300)) for depth in (0, 1))
        rlm.prewarm(1)
        for size in sizes:
            rows, text = draw_rows(int(size * chars_per_token / CHARS_PER_ROW))
            truths = {
                asked: [row["order"] for row in rows if holds(row)] for asked, (holds, _) in CASES.items()
            }
            fits = size < 0.95 * window_tokens(settings)
            # The direct calls go first: a provider that keeps prefixes reads the table only once.
            once = {asked: ask(direct, asked, text, truths[asked]) if fits else NOT_SENT for asked in CASES}
            for asked, truth in truths.items():
                shown = str(len(truth)) if COUNT in asked else f"{len(truth)} ids"
                recursive = ask(rlm, asked, text, truth)
                print(
                    f"| {size:,} | {asked.partition('?')[0]} | {shown} | {once[asked]} | {recursive} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
