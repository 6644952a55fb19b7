"""Ask about several files at once: a folder, or documents of your own with ids.

RLM_RAY_MODEL=openai/gpt-5-mini python examples/multi_file.py
"""

import os
from pathlib import Path

from rlm_ray import RLM, Files

FOLDER = Path(__file__).with_name("peps")
DOCUMENTS = [
    {
        "id": "manual.txt",
        "text": "Download the installer, run it, and enter your licence key. Free storage: 2 GB.",
    },
    {
        "id": "trouble.txt",
        "text": "Sync does not work? Check the connection, restart, and open port 443 of the firewall.",
    },
    {
        "id": "prices.txt",
        "text": "Premium has 1 TB for $9.99 a month. Students pay half of it with an .edu address.",
    },
]


def main() -> None:
    rlm = RLM(model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"))
    print(rlm.completion("What would a student pay for 1 TB?", DOCUMENTS))

    found = Files(FOLDER, include=["pep-03*.txt"]).read()
    print(f"\n{found.report.line()}")  # what was read, and what was not and why
    print(rlm.completion("Which proposal is about iterating in reverse?", found))


if __name__ == "__main__":
    main()
