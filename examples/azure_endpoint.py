"""Ask a deployment on Azure OpenAI: a strong one plans, a cheap one reads.

    AZURE_API_BASE=https://NAME.openai.azure.com AZURE_API_KEY=... AZURE_API_VERSION=2024-10-21 \\
    AZURE_DEPLOYMENT=gpt-5 AZURE_READING_DEPLOYMENT=gpt-5-mini python examples/azure_endpoint.py

Without the variables the embedded offline model answers. Not tried against the real service: litellm makes the calls.
"""

import os

from rlm_ray import RLM, Limits, Price, RLMOptions

TEXT = "\n".join(
    f"invoice {number}: {number * 37 % 90} euros, due on day {number % 28}" for number in range(1, 60)
)


def main() -> None:
    options: RLMOptions = {"model": "offline/extractive"}
    if deployment := os.environ.get("AZURE_DEPLOYMENT"):
        reading = os.environ.get("AZURE_READING_DEPLOYMENT", deployment)
        options = {
            "model": f"azure/{deployment}",  # azure/ and the name of the deployment, whatever model it is of
            "recursive_model": f"azure/{reading}",
            # A deployment's name says no price: without these a limit on cost is refused before anything is spent.
            "prices": {
                f"azure/{deployment}": Price(input_usd=1.25, output_usd=10.0),
                f"azure/{reading}": Price(input_usd=0.25, output_usd=2.0),
            },
            "limits": Limits(cost_usd=0.50),
        }
    result = RLM(**options).run("Which invoice is due on day 27?", TEXT)
    print(result.answer)
    print(f"{result.stop_reason}: {result.usage.total.calls} calls, {result.usage.total.tokens:,} tokens")


if __name__ == "__main__":
    main()
