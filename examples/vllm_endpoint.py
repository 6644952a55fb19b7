"""Ask a vLLM server of your own, many parts at once: it answers requests together, so it is asked so.

    vllm serve Qwen/Qwen2.5-7B-Instruct --max-model-len 32768
    VLLM_URL=http://127.0.0.1:8000/v1 VLLM_MODEL=Qwen/Qwen2.5-7B-Instruct python examples/vllm_endpoint.py

Without the variable a scripted server of this machine is in its place, which speaks the same protocol. Not tried against vLLM itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rlm_ray import RLM, Rates
from rlm_ray.testing import ModelServer

PARTS = [f"day {day}: the harbour had {day * 13 % 40} ships" for day in range(1, 25)]
PLAN = """```python
answers = recursive_map("How many ships? Only the number.", context)
FINAL(f"{len(answers)} days were read, all at once")
```"""


@contextmanager
def server() -> Iterator[str]:
    """The address of vLLM's API, or of the script."""
    if url := os.environ.get("VLLM_URL"):
        yield url
        return
    print("(offline: the model's replies are a script)")
    with ModelServer(lambda request: PLAN if "REPL" in request.system else "13") as scripted:
        yield scripted.url


def main() -> None:
    name = os.environ.get("VLLM_MODEL", "scripted")
    with server() as url:
        rlm = RLM(
            f"hosted_vllm/{name}",
            api_base=url,
            api_key=os.environ.get("VLLM_KEY", "none"),
            window_tokens=32_768,  # as with --max-model-len: litellm cannot know it
            rates=Rates(in_flight=64),  # as with --max-num-seqs
            max_leaf_chars=20_000,
        )
        result = rlm.run("On how many days were there ships?", PARTS)
    print(result.answer)
    print(f"{result.usage.total.calls} calls")


if __name__ == "__main__":
    main()
