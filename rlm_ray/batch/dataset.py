"""The rows of a `ray.data.Dataset`, streamed: Ray Data reads ahead by its own backpressure, and no further.

- Its tasks want whole CPUs (in Ray 2.60 even the listing of files, whatever `num_cpus` its reading is given), and session
  actors hold theirs as long as the job lasts: both would wait for ever. So actors of such a job take half a CPU each.
- One bad block fails the dataset. What Ray Data raises ends the job, and all that is answered is kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rlm_ray.batch.parquet_reader import from_arrow
from rlm_ray.batch.raw_rows import RawRow
from rlm_ray.config import Cluster
from rlm_ray.errors import ClusterError

_BATCH_ROWS = 64
STALL_WARNING_S = 30.0

_log = logging.getLogger(__name__)


class RayDataSource:
    """Reads the rows of a dataset, in its order."""

    name = "a Ray dataset"

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def read(self) -> Iterator[RawRow]:
        for batch in self._batches():
            yield from from_arrow(batch)

    def _batches(self) -> Iterator[Any]:
        """Yield its rows as Arrow tables, some at a time."""
        context = self._dataset.context
        context.enable_progress_bars = False  # there is one display, and it is ours
        context.execution_options.preserve_order = True
        batches = iter(self._dataset.iter_batches(batch_size=_BATCH_ROWS, batch_format="pyarrow"))
        while (batch := _next(batches)) is not None:
            yield batch

    def fraction_read(self) -> float | None:
        return None

    def room_in(self, cluster: Cluster) -> Cluster:
        """Return the cluster with CPUs left for the tasks of Ray Data."""
        import ray

        cpus = ray.cluster_resources().get("CPU", 1) if ray.is_initialized() else 1
        return replace(cluster, cpus_per_actor=min(cluster.cpus_per_actor, 0.5 if cpus >= 2 else 0))


class StoredDataset(RayDataSource):
    """Stores what it reads in Ray's object store, to give it back with the answers: a dataset need not give the same twice."""

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        self._blocks: list[tuple[int, Any]] = []
        self._is_complete = False

    def read(self) -> Iterator[RawRow]:
        import ray

        # One list for each reading: that of a batch which was stopped may still go on in its thread.
        blocks: list[tuple[int, Any]] = []
        self._blocks, self._is_complete = blocks, False
        for batch in self._batches():
            blocks.append((batch.num_rows, ray.put(batch)))
            yield from from_arrow(batch)
        self._is_complete = blocks is self._blocks

    def row_count(self) -> int:
        if not self._is_complete:
            for _ in self.read():
                pass
        return sum(rows for rows, _ in self._blocks)

    def with_answers(self, answers: Any) -> Any:
        """Return a dataset of the same rows with the columns of an Arrow table beside them."""
        import ray.data

        start, blocks = 0, []
        for rows, stored in self._blocks:
            block = ray.get(stored)
            for field in answers.schema:
                block = block.append_column(field, answers[field.name].slice(start, rows))
            blocks.append(ray.put(block))
            start += rows
        return ray.data.from_arrow_refs(blocks) if blocks else ray.data.from_arrow(answers)


def _next(batches: Iterator[Any]) -> Any:
    """Return the next batch, or None after the last; a long wait is explained."""
    late = threading.Timer(STALL_WARNING_S, _warn_stalled)
    late.daemon = True
    late.start()
    try:
        return next(batches, None)
    except Exception as error:
        raise ClusterError(f"Ray Data cannot read on: {error}") from error
    finally:
        late.cancel()


def _warn_stalled() -> None:
    import ray

    if ray.is_initialized() and ray.available_resources().get("CPU", 0) < 1:
        _log.warning(
            "Ray Data has given no row for %.0f s and no CPU is free for it; if session actors of another run hold "
            "them, it goes on when they are idle for cluster.idle_timeout_s",
            STALL_WARNING_S,
        )


def is_dataset(source: Any) -> bool:
    """Tell whether it is a Ray dataset, without importing Ray, which takes seconds."""
    kinds = type(source).__mro__
    return any(kind.__module__.startswith("ray.data") and kind.__name__ == "Dataset" for kind in kinds)
