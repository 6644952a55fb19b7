"""Run by test_connections.py in a process of its own: Ray ends and comes again between questions.

The first one is asked in a cluster that runs already (its address is the argument), the next one in a Ray the user
starts, and the last one in a Ray that we start.
"""

from __future__ import annotations

import sys

import ray
from scripts import tell

from rlm_ray import RLM, Cluster
from rlm_ray.testing import ModelServer
from rlm_ray.testing.responses import recursion, run_query

QUIET = {"log_to_driver": False, "logging_level": "ERROR"}

with ModelServer(recursion) as server:
    cluster = Cluster(max_actors=1, cpus_per_actor=0)
    rlm = RLM(model="openai/m", api_base=server.url, api_key="k", cluster=cluster)
    question = run_query("print(len(context))")
    ray.init(address=sys.argv[1], **QUIET)
    answers = [rlm.completion(question, "some text " * 300)]
    ray.shutdown()
    ray.init(address="local", num_cpus=1, include_dashboard=False, **QUIET)
    answers.append(rlm.completion(question, "some text " * 30_000))
    ray.shutdown()
    answers.append(rlm.completion(question, "some text " * 30_000))
tell({"answers": answers})
