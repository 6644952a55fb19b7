"""`cautious`: for models that call too much."""

from __future__ import annotations

from dataclasses import replace

from rlm_ray.core.profiles import full

ADVICE = """
Sub-calls cost time and money. Count before you call: if a step needs more than about 20 sub-calls, put several pieces \
into one, or narrow the text down with code first. Never make a sub-call whose answer plain code can compute.
"""

PROFILE = replace(full.PROFILE, system=full.SYSTEM + ADVICE)
