"""What a job was asked, as it is written down: another question, model or corpus is another job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlm_ray.batch.source import Corpus
from rlm_ray.batch.template import Column, Question
from rlm_ray.config import Settings, settings_as_table
from rlm_ray.errors import InputError

_SHAPE = (
    "model",
    "recursive_model",
    "max_depth",
    "max_iterations",
    "leaf_chars",
    "direct_below_chars",
    "profile",
    "max_tokens",
    "sandbox",
)
"""Settings that an answer depends on."""
_PARAMS_WITHOUT_SHAPE = ("api_key", "api_base", "timeout")
"""Where a model is reached does not say what it answers."""


def asked(
    question: Question, corpus: Corpus, settings: Settings, schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """All that shapes the answers; the rows themselves are compared one by one."""
    table = settings_as_table(settings)
    params = {name: value for name, value in table["params"].items() if name not in _PARAMS_WITHOUT_SHAPE}
    return {
        "query_column" if isinstance(question, Column) else "query": question.source,
        "source": corpus.name,
        "text column": corpus.text_column,
        "id column": corpus.ident_column,
        "schema": schema,
        **{name: table[name] for name in _SHAPE},
        **{f"params.{name}": value for name, value in params.items()},
    }


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` that names what is different now."""
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
