"""What a job was asked, as it is written down: another question, model or corpus is another job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlm_ray.batch.source import RowSource
from rlm_ray.batch.template import QueryColumn, QueryTemplate
from rlm_ray.config import ANSWER_SETTINGS, Settings, settings_to_dict
from rlm_ray.core.deprecated_names import current_table
from rlm_ray.errors import InputError

TRANSPORT_PARAMS = ("api_key", "api_base", "timeout")
"""Where a model is reached does not say what it answers."""


def job_fingerprint(
    question: QueryTemplate, corpus: RowSource, settings: Settings, schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """All that shapes the answers; the rows themselves are compared one by one."""
    table = settings_to_dict(settings)
    params = {name: value for name, value in table["params"].items() if name not in TRANSPORT_PARAMS}
    return {
        "query_column" if isinstance(question, QueryColumn) else "query": question.source,
        "source": corpus.name,
        "text column": corpus.text_column,
        "id column": corpus.ident_column,
        "schema": schema,
        **{name: table[name] for name in ANSWER_SETTINGS if name != "params"},
        **{f"params.{name}": value for name, value in params.items()},
    }


def check_compatible(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` that names what is different now."""
    before = current_table(before)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        shown = "; ".join(
            f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}" for name in names[:3]
        )
        why = f"belongs to another job ({shown}); ask as before, give another --out, or start anew with --restart"
        raise InputError(where, why)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"
