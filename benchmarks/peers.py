"""What others make of the same quota: a thread pool with retries, and Ray Data's HTTP stage.

    python benchmarks/peers.py threads  URL CALLS.json [--threads 64]
    python benchmarks/peers.py ray-data URL CALLS.json [--qps 100] [--actors 4]    needs ray[data] and aiohttp

`admission.py quota` runs these beside its own. They know nothing of rlm_ray, so any Python will do.
CALLS.json holds the messages of each call.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ATTEMPTS = 60
MAX_TOKENS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["threads", "ray-data"])
    parser.add_argument("url")
    parser.add_argument("calls", type=Path)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--qps", type=int, default=100, help="in all")
    parser.add_argument("--actors", type=int, default=4)
    options = parser.parse_args()
    payloads = [
        {"model": "strict", "messages": messages, "max_tokens": MAX_TOKENS}
        for messages in json.loads(options.calls.read_text())
    ]
    started = time.monotonic()
    if options.peer == "threads":
        answered = threads(options.url, payloads, options.threads)
    else:
        answered = ray_data(options.url, payloads, options.qps, options.actors)
    print(json.dumps({"answered": answered, "seconds": time.monotonic() - started}))


def threads(url: str, payloads: list[dict[str, Any]], number: int) -> int:
    """A pool of threads with a connection each; 429 and 5xx are tried again after Retry-After, or 1, 2, 4 ... s."""
    local = threading.local()
    where = urllib.parse.urlsplit(url)

    def once(body: bytes) -> tuple[int, float | None]:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(where.netloc, timeout=600)
        headers = {"content-type": "application/json", "authorization": "Bearer key"}
        local.connection.request("POST", f"{where.path}/chat/completions", body, headers)
        answer = local.connection.getresponse()
        answer.read()
        asked = answer.headers.get("retry-after-ms")
        return answer.status, None if asked is None else float(asked) / 1000

    def call(payload: dict[str, Any]) -> bool:
        body = json.dumps(payload).encode()
        for attempt in range(ATTEMPTS):
            status, wait_s = once(body)
            if status == 200:
                return True
            time.sleep(min(2**attempt, 60) * random.random() if wait_s is None else wait_s)
        return False

    with ThreadPoolExecutor(number) as pool:
        return sum(pool.map(call, payloads))


def ray_data(url: str, payloads: list[dict[str, Any]], qps: int, actors: int) -> int:
    """Ray Data's HTTP stage as its documentation shows it: each actor keeps to its part of `qps`."""
    import ray
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    ray.init(address="local", num_cpus=actors + 8, include_dashboard=False, log_to_driver=False)
    config = HttpRequestProcessorConfig(
        url=f"{url}/chat/completions",
        headers={"Authorization": "Bearer key"},
        qps=qps // actors,
        batch_size=16,
        concurrency=actors,
        max_retries=10,
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {"payload": json.loads(row["call"])},
        postprocess=lambda row: {"text": row["http_response"]["choices"][0]["message"]["content"]},
    )
    items = [{"call": json.dumps(payload)} for payload in payloads]
    rows = ray.data.from_items(
        items, override_num_blocks=len(items) // 16
    )  # one block would keep one actor busy
    return int(processor(rows).materialize().count())


if __name__ == "__main__":
    main()
