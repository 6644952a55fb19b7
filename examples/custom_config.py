"""Set limits, depth and parameters of the model; ask in an event loop; meet a limit.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/custom_config.py
"""

import asyncio
import os

from rlm_ray import RLM, ConfigError, LimitReached, Limits

SERVERS = """
Server A: 64 cores, 512 GB RAM, Ubuntu 22.04, US-East-1, active, uptime 99.98%.

Server B: 28 cores, 256 GB RAM, CentOS 8, US-West-2, active, uptime 99.95%.

Server C: 32 cores, 128 GB RAM, Ubuntu 20.04, EU-Central-1, in maintenance, uptime 98.50%.
"""


async def ask_both(rlm: RLM) -> None:
    questions = ["Which server has the most RAM?", "Which servers are in the US?"]
    for answer in await asyncio.gather(*(rlm.acompletion(question, SERVERS) for question in questions)):
        print(f"{answer}\n")


def main() -> None:
    rlm = RLM(
        model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"),
        max_depth=2,  # sub-calls about much text get a REPL of their own
        max_iterations=15,
        max_tokens=4_000,  # of one message
        timeout=60,  # seconds for one call
        limits=Limits(cost_usd=0.50, calls=200),  # of the whole tree
    )
    asyncio.run(ask_both(rlm))
    print(rlm.completion("Which server is in maintenance?", SERVERS, max_depth=1))  # for this one question
    try:
        rlm.completion("Compare all servers.", SERVERS, limits={"calls": 1})
    except LimitReached as error:  # also of turns and time; `error.reason` says which
        print(f"stopped by a limit: {error}; known until then: {error.partial is not None}")
    try:
        RLM(max_iteration=5)  # type: ignore[call-arg]  # a slip
    except ConfigError as error:
        print(error)


if __name__ == "__main__":
    main()
