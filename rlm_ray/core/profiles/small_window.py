"""`small-window`: for capable models whose window is small."""

from __future__ import annotations

from dataclasses import replace

from rlm_ray.core.profiles import full

ADVICE = """
Your window is small. Print little at a time, keep results in variables, and never print whole pieces of the context.
"""

PROFILE = replace(full.PROFILE, system=full.SYSTEM + ADVICE, observation_chars=2_500, max_piece_chars=20_000)
