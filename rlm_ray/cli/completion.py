"""What a shell is offered while a word is typed: runs on record, names of models, words of a setting.

The shells themselves are served by typer: `rlm-ray --install-completion`. Errors say nothing here: there is nobody to read them.
Some shells evaluate what they are offered, and questions and names of folders may be anybody's: only harmless letters get there.
"""

from __future__ import annotations

import re
from contextlib import suppress

from rlm_ray.errors import RLMError

_NAME = re.compile(r"[\w.-]+", re.ASCII)
_NOT_HARMLESS = re.compile(r"[^\w ,.?!-]+")
_MOST_RUNS, _MOST_MODELS = 50, 200


def complete_run(incomplete: str) -> list[tuple[str, str]]:
    """Offer runs, the newest first, each with its question."""
    from rlm_ray.cli import options
    from rlm_ray.cli.runs import facts_of
    from rlm_ray.journal.run_store import list_runs
    from rlm_ray.progress.live_state import one_line

    with suppress(RLMError, OSError):
        known = [run for run in list_runs(options.run_dir_of(None)) if _NAME.fullmatch(run.run_id)]
        found = [run for run in known if run.run_id.startswith(incomplete)][:_MOST_RUNS]
        offered = [
            (run.run_id, _NOT_HARMLESS.sub(" ", one_line(str(facts_of(run)["question"])))) for run in found
        ]
        return [*([("last", "the newest run")] if "last".startswith(incomplete) else []), *offered]
    return []


def complete_model(incomplete: str) -> list[str]:
    """Offer the names that litellm knows."""
    from rlm_ray.llm.model_check import chat_models

    names = ["offline/extractive", *chat_models()]
    return [name for name in names if name.startswith(incomplete)][:_MOST_MODELS]


def complete_profile(incomplete: str) -> list[str]:
    """Offer the profiles of prompts."""
    from rlm_ray.core.profiles import PROFILE_NAMES

    return [name for name in PROFILE_NAMES if name.startswith(incomplete)]
