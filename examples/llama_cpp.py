"""Ask a server of your own: llama.cpp here; vLLM, SGLang or LM Studio work the same way.

    llama-server -m model.gguf -c 16384 --port 8080
    LLAMA_URL=http://127.0.0.1:8080/v1 python examples/llama_cpp.py

Without the variable the embedded offline model answers.
"""

import os

from rlm_ray import RLM, Rates, RLMOptions

TEXT = "\n".join(
    f"{hour:02}:00 the pump ran at {level}%" for hour, level in enumerate([40, 42, 97, 43, 41, 40])
)


def main() -> None:
    server: RLMOptions = {"model": "offline/extractive"}
    if url := os.environ.get("LLAMA_URL"):
        server = {
            "model": "openai/local",  # openai/ANY_NAME: any server that speaks OpenAI's API
            "api_base": url,
            "api_key": "none",
            "window_tokens": 16_384,  # as with -c: litellm cannot know it
            "rates": Rates(in_flight=1),  # it answers one request after the other
            "profile": "short",
            "max_tokens": 1_000,
        }
    print(RLM(**server).completion("At what hour did the pump run at 97%?", TEXT))


if __name__ == "__main__":
    main()
