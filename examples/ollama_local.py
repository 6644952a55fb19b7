"""Ask a model that runs on your machine with Ollama: no key, and nothing leaves the machine.

    ollama pull llama3.2
    RLM_RAY_MODEL=ollama/llama3.2 python examples/ollama_local.py

Without the variable the embedded offline model answers, so that this runs where there is no Ollama.
"""

import os

from rlm_ray import RLM

TEXT = "\n\n".join(
    f"Room {number} is booked by the {team} team on {day}."
    for number, team, day in [(101, "sales", "Monday"), (102, "design", "Tuesday"), (103, "legal", "Friday")]
)


def main() -> None:
    model = os.environ.get("RLM_RAY_MODEL", "offline/extractive")
    rlm = RLM(
        model=model,
        api_base=os.environ.get("OLLAMA_API_BASE"),  # only where Ollama is not at http://localhost:11434
        profile="short",  # small models follow an example better than rules
        max_iterations=10,
    )
    result = rlm.run(
        "Who has room 102, and when?", TEXT
    )  # small models give up now and then: `run` says so and raises nothing
    print(result.answer if result.answered else f"stopped: {result.why}")


if __name__ == "__main__":
    main()
