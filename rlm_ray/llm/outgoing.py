"""Checks our own requests before they are sent, so that a mistake is a sentence and not a library's traceback."""

from __future__ import annotations

from collections.abc import Mapping

from rlm_ray.core.llm import ModelRequest
from rlm_ray.core.secrets import header_fault
from rlm_ray.errors import ConfigError, InputError

_KEY_VARIABLES = {
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),
    "bedrock": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
    ),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
}


def check_request(request: ModelRequest, provider: str, environment: Mapping[str, str]) -> None:
    """Raise `ConfigError` for a key that no header can hold, `InputError` for text that no UTF-8 can."""
    if not request.params.get("api_key"):
        for name in _KEY_VARIABLES.get(provider, (f"{provider.upper()}_API_KEY",)):
            if why := header_fault(environment.get(name, "")):
                raise ConfigError(name, why)
    for message in request.messages:
        try:
            message.content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the {message.role} message",
                f"holds half of a surrogate pair ({message.content[error.start]!a} at character {error.start:,}), which "
                "no UTF-8 can hold",
            ) from error
