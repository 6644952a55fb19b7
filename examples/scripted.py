"""For examples that need a model which reasons: yours, or without one a scripted server of this machine in its place.

The embedded offline model only quotes. So where an example wants code that calls a tool, or JSON, its offline run plays replies
that were written beforehand: everything else (sandbox, tools, checks, records) is real.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rlm_ray import RLM, Settings
from rlm_ray.testing import ModelServer, Script


@contextmanager
def model_or_script(script: Script | Sequence[str]) -> Iterator[Settings]:
    """Give settings with the model that RLM_RAY_MODEL names; without it, with one that says what the script says."""
    if model := os.environ.get("RLM_RAY_MODEL"):
        yield RLM(model).settings
        return
    print("(offline: the model's replies are a script)")
    with ModelServer(script) as server:
        yield RLM("openai/scripted", api_base=server.url, api_key="none").settings
