"""Profiles: how to speak to a kind of model; a file holds all words of one version.

`profile.py` says which a model gets. A run keeps the version of the prompts that it began with (`prompt_version`), so
that it can be resumed: a text here may be changed only together with `PROMPT_VERSION`, and the old one stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rlm_ray.core.profiles import version_1, version_2
from rlm_ray.core.profiles.profile import Profile, choose_profile, window_of_params

PROMPT_VERSION = 2
"""Version 1 are the words of the releases up to 0.1."""

PROFILES = MappingProxyType(
    {
        "full": version_2.FULL,
        "short": version_2.SHORT,
        "cautious": version_2.CAUTIOUS,
        "small-window": version_2.SMALL_WINDOW,
    }
)
DEFAULT = "default"
"""The setting that leaves the choice to the model's name."""
PROFILE_NAMES = (DEFAULT, *PROFILES)


def get_profile(name: str, version: int = PROMPT_VERSION) -> Profile:
    """Return a profile by its name, in the words of this version."""
    if version == 1:
        return version_1.PROFILES.get(name, version_1.PROFILES[DEFAULT])
    return PROFILES["full" if name == DEFAULT else name]


def profile_name(setting: str, version: int, model: str, params: Mapping[str, Any]) -> str:
    """Return the name of the profile that a session gets: the one of the settings, or the one that fits its model."""
    return setting if setting != DEFAULT or version == 1 else choose_profile(model, params)


__all__ = [
    "DEFAULT",
    "PROFILES",
    "PROFILE_NAMES",
    "PROMPT_VERSION",
    "Profile",
    "get_profile",
    "profile_name",
    "window_of_params",
]
