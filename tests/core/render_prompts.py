"""Renders each profile over two contexts; run as a program it writes the files that `test_profiles.py` compares with."""

from __future__ import annotations

from pathlib import Path

from rlm_ray.core import prompts
from rlm_ray.core.context import ContextInfo
from rlm_ray.core.state_machine import Task, Trajectory

FOLDER = Path(__file__).parent / "rendered_prompts"
NAMES = {
    **{name: (name, 2) for name in ("full", "short", "cautious", "small-window")},
    **{f"version-1-{name}": (name, 1) for name in ("default", "cautious", "small-window")},
}
TEXT = ContextInfo("text", 60_000, 1, with_ids=False, sample="2026-11-01 a line of a log\n")
DOCUMENTS = ContextInfo("documents", 6_400_000, 703, with_ids=True, sample="PEP: 1\n")


def render(name: str) -> str:
    """Return the first two messages for a text at the bottom of the tree, and for many documents above it."""
    profile, version = NAMES[name]
    shown = []
    for info, depth in ((TEXT, 1), (DOCUMENTS, 2)):
        task = Task("How many?", info, max_depth=depth, profile=profile, prompt_version=version)
        messages = prompts.session_messages(Trajectory(task), prompts.status_line(task, 1, "$0.50"))
        shown += [f"[{message.role}]\n{message.content}" for message in messages]
    leaf = prompts.leaf_messages("How many?", "a piece", version)
    shown += [f"[{message.role} of a plain sub-call]\n{message.content}" for message in leaf]
    return "\n".join(shown) + "\n"


if __name__ == "__main__":
    for each in NAMES:
        (FOLDER / f"{each}.txt").write_text(render(each))
