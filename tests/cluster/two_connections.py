"""Run by test_connections.py in a process of its own: Ray ends and comes again between questions."""

from __future__ import annotations

import ray

from rlm_ray import RLM
from rlm_ray.testing import ModelServer
from rlm_ray.testing.scripts import recursion, run_query

with ModelServer(recursion) as server:
    rlm = RLM(model="openai/m", api_base=server.url, api_key="k")
    question = run_query("print(len(context))")
    answers = [rlm.completion(question, "some text " * 300)]
    ray.shutdown()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    answers.append(rlm.completion(question, "some text " * 30_000))
    ray.shutdown()
    answers.append(rlm.completion(question, "some text " * 30_000))
print(answers)
