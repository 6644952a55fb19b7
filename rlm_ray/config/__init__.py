"""Settings of a run: what there is (`settings.py`), where it comes from (`sources.py`), and whose word it is (`trust.py`)."""

from rlm_ray.config.models import ModelChoice
from rlm_ray.config.settings import (
    ANSWER_SETTINGS,
    DEFAULT_RUN_DIR,
    Cluster,
    Settings,
    Tracing,
    setting_docs,
    setting_names,
)
from rlm_ray.config.sources import (
    SettingValue,
    load_settings,
    load_values,
    merge_settings,
    settings_from,
    settings_from_dict,
    settings_to_dict,
    values_from_keywords,
    values_from_table,
)

__all__ = [
    "ANSWER_SETTINGS",
    "DEFAULT_RUN_DIR",
    "Cluster",
    "ModelChoice",
    "SettingValue",
    "Settings",
    "Tracing",
    "load_settings",
    "load_values",
    "merge_settings",
    "setting_docs",
    "setting_names",
    "settings_from",
    "settings_from_dict",
    "settings_to_dict",
    "values_from_keywords",
    "values_from_table",
]
