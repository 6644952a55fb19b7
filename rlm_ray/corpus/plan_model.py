"""What a plan has to know of the model that will read the pieces: its window, its price, the length of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlm_ray.config import Settings
from rlm_ray.core.estimate import BYTES_PER_TOKEN
from rlm_ray.core.model import Usage
from rlm_ray.core.prompts import PIECE_CHARS

CHARS_PER_TOKEN = 4.0
"""Of models nobody knows."""
RESERVED_TOKENS = 8_192
"""Of a window, for the question and the answer."""
LEAF_DEPTH = 1


@dataclass(frozen=True, slots=True)
class Reader:
    """The model that reads the pieces."""

    name: str
    window_tokens: int | None = None
    """None where nobody knows."""
    chars_per_token: float = CHARS_PER_TOKEN
    cost: Callable[[Usage], float | None] = lambda _: None
    """US dollars of one call; None where nobody knows."""

    def piece_chars(self, leaf_chars: int) -> int:
        """How long a piece may be: what the settings give to one call, and never more than the window holds."""
        wanted = leaf_chars or PIECE_CHARS
        if self.window_tokens is None:
            return wanted
        fits = max(self.window_tokens // 2, self.window_tokens - RESERVED_TOKENS)
        return min(wanted, fits * BYTES_PER_TOKEN)

    def tokens(self, chars: float) -> int:
        return round(chars / self.chars_per_token)


def reader_of(settings: Settings, sample: str) -> Reader:
    """The reader of these settings. `sample` is of what it will read. Imports litellm."""
    from rlm_ray.models.litellm_client import LitellmModel, import_litellm

    name, _ = settings.model_at(LEAF_DEPTH)
    info = _known(import_litellm(), name)
    price = settings.prices.get(name)
    model = LitellmModel()
    return Reader(
        name,
        info.get("max_input_tokens"),
        _chars_per_token(import_litellm(), sample) if info.get("max_input_tokens") else CHARS_PER_TOKEN,
        price.of if price is not None else lambda usage: model.cost_usd(name, usage),
    )


def _known(litellm: Any, name: str) -> dict[str, Any]:
    try:
        return dict(litellm.get_model_info(name))
    except Exception:  # noqa: BLE001 - litellm raises bare Exception for a model it does not know
        return {}


def _chars_per_token(litellm: Any, sample: str) -> float:
    """By the one tokenizer that comes with litellm; others would be fetched from the network."""
    tokens = len(litellm.encoding.encode(sample, disallowed_special=()))
    return len(sample) / tokens if tokens else CHARS_PER_TOKEN
