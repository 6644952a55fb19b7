"""The live view of a run: a tree and a few figures, while it goes on.

`Board` takes records in and answers with a `View`, both pure; `draw.py` and `words.py` turn a view into what rich
shows or into a plain line; `faces.py` is where it is shown: a terminal, a notebook, a log. `Progress` is all of it.
"""

from rlm_ray.progress.live import Progress
from rlm_ray.progress.live_state import LimitUsage, LiveRunState, Row, Snapshot

__all__ = ["LimitUsage", "LiveRunState", "Progress", "Row", "Snapshot"]
