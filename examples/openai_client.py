"""Ask through OpenAI's own client: any program that speaks its API can use this library as a service.

python examples/openai_client.py                                   # starts the service, with the offline model
RLM_RAY_MODEL=openai/gpt-5-mini python examples/openai_client.py
SERVICE_URL=http://host:8000/v1 SERVICE_KEY=... python examples/openai_client.py   # a service that runs already
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI  # pip install openai

BOOK = Path(__file__).with_name("frankenstein.txt")


@contextmanager
def service() -> Iterator[str]:
    """The address of a service; it is started here unless SERVICE_URL names one."""
    if url := os.environ.get("SERVICE_URL"):
        yield url
        return
    command = [sys.executable, "-m", "rlm_ray", "serve", "--port", "8011"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:  # "ready (stop with Ctrl-C)"
            print(line, end="")
            if line.startswith("ready"):
                break
        else:
            sys.exit("the service did not start")
        try:
            yield "http://127.0.0.1:8011/v1"
        finally:
            server.terminate()
            server.communicate()


def main() -> None:
    with service() as url, OpenAI(base_url=url, api_key=os.environ.get("SERVICE_KEY", "any")) as client:
        book = client.files.create(file=BOOK, purpose="user_data")
        model = client.models.list().data[0].id
        question = {"type": "text", "text": "Who tells the story to whom?"}
        content = [{"type": "file", "file": {"file_id": book.id}}, question]
        reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])  # type: ignore[list-item, misc]
        print(f"{model}: {reply.choices[0].message.content}")


if __name__ == "__main__":
    main()
