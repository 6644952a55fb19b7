"""Which variables of a driver's environment go to actors on other machines: keys and addresses of providers, the way to
them, and credentials of storages. They travel in calls, never as arguments of an actor's creation: these lie in Ray's
GCS, in clear, for as long as the actor may be started again.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

_PROVIDERS = re.compile(
    r"^(AWS|AZURE|VERTEX|VERTEXAI|GOOGLE|GEMINI|OPENAI|ANTHROPIC|MISTRAL|GROQ|TOGETHER\w*|OPENROUTER|DEEPSEEK|"
    r"OLLAMA|HF|HUGGINGFACE|COHERE|XAI|LITELLM|FIREWORKS\w*|WATSONX|DATABRICKS|REPLICATE|HOSTED_VLLM)_[A-Z0-9_]+$"
    r"|^[A-Z0-9_]+_API_(KEY|BASE|VERSION)$"
)
_WAY = re.compile(
    r"^((HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy"
    r"|SSL_CERT_(FILE|DIR)|SSL_(VERIFY|CERTIFICATE|SECURITY_LEVEL)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$"
)
"""Files they name must be there on every node."""
_STORAGES = re.compile(
    r"^((AWS|FSSPEC|GCSFS|GOOGLE|AZURE|CLOUDSDK)_[A-Z0-9_]+|STORAGE_EMULATOR_HOST|BOTO_CONFIG)$"
)


def provider_environment() -> dict[str, str]:
    """What a session actor needs of this process's environment: for litellm, and for files it reads."""
    return _chosen(_PROVIDERS, _WAY, _STORAGES)


def storage_environment() -> dict[str, str]:
    """What the journal of a run needs of it."""
    return _chosen(_WAY, _STORAGES)


def take_storage_environment(environment: dict[str, str]) -> None:
    """Have fsspec and its drivers in this process use it."""
    if environment.items() <= os.environ.items():
        return
    os.environ.update(environment)
    import fsspec

    fsspec.config.set_conf_env(fsspec.config.conf)  # it reads its own variables once, at import


def _chosen(*patterns: re.Pattern[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in os.environ if _matches(name, patterns)}


@lru_cache(maxsize=2_000)
def _matches(name: str, patterns: tuple[re.Pattern[str], ...]) -> bool:
    """Remembered: each run asks for all of them."""
    return any(pattern.match(name) for pattern in patterns)
