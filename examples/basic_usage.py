"""Ask a question about a text.

python examples/basic_usage.py                                  # offline: quotes the passages that speak to the question
RLM_RAY_MODEL=openai/gpt-5-mini python examples/basic_usage.py  # a real model; its key in OPENAI_API_KEY
"""

import os

from rlm_ray import RLM

TEXT = """
The Clifton Suspension Bridge spans the Avon Gorge. It was designed by Isambard Kingdom Brunel, who did not live to see it finished.

Work began in 1831 and stopped the same year because of the Bristol riots. It opened on 8 December 1864.

The bridge has a span of 214 metres. Its tolls pay for its upkeep; pedestrians cross for nothing.
"""


def main() -> None:
    rlm = RLM(model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"))
    answer = rlm.completion(query="When did the bridge open, and who designed it?", context=TEXT)
    print(answer)
    print(rlm.stats)  # {'llm_calls': ..., 'iterations': ..., 'depth': ...}


if __name__ == "__main__":
    main()
