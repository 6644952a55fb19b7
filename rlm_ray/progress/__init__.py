"""The live view of a run: a tree and a few figures, while it goes on.

`LiveRunState` adds records up and returns a `Snapshot`, both pure; `render.py` turns a snapshot into
lines; `targets.py` shows them on a terminal, in a notebook or in a log. `Progress` is all of it. `RunLog` logs records instead.
"""

from rlm_ray.progress.live import Progress
from rlm_ray.progress.live_state import LimitUsage, LiveRunState, Row, Snapshot
from rlm_ray.progress.targets import RunLog

__all__ = ["LimitUsage", "LiveRunState", "Progress", "Row", "RunLog", "Snapshot"]
