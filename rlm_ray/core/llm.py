"""Requests to models, their replies, their usage and their price, independent of the client that carries them.

Also estimates how many tokens a request or a text has, before a provider has counted them or where it never does.
The estimate is *reserved* of a budget, so it is rather too many than too few: English comes out a fifth too high;
scripts, emoji, numbers, base64 and identifiers come out close. Whether a prompt fits a window is for the provider to
say. No tokenizer runs: it takes 0.5 s for a megabyte. Characters are counted by kind, each kind with the tokens it takes
in the model's family of tokenizers; a long text is sampled evenly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

OUTPUT_BOUNDS = ("max_completion_tokens", "max_tokens")
"""The names under which providers take the most a reply may hold."""


BYTES_PER_TOKEN = 3
"""Of a corpus that is not read yet."""
TOKENS_PER_MESSAGE = 8
UNBOUNDED_OUTPUT_TOKENS = 4_096
"""What to expect of a message nobody bounds; only the rate uses it, a budget bounds every message."""
BUDGET_OUTPUT_TOKENS = 16_384
"""The most a message may hold where a budget must be kept and `max_tokens` is not set."""
LAST_CALL_TOKENS = 2_048
"""The same for the last call, which has to fit what was reserved for it."""
MAX_CREDIBLE_TOKENS = 10**8
"""No request or reply has more; a provider that says so has not counted."""
SAMPLE_CHARS, SAMPLES = 1_024, 32
"""A text longer than all samples together is estimated by them."""
MARGIN = 1.15
DENSE_CHARS = 24
_DENSE = re.compile(rb"[A-Za-z0-9+/_\-]{24,}")
"""Base64, hashes, random identifiers: no word of any language."""
DENSE_EXTRA = 0.42
"""What each of their characters takes more than its kind does elsewhere."""
_UPPER = bytes(range(65, 91))
_DIGITS = bytes(range(48, 58))
_BREAKS = b"\n\t\r"
_NOT_ASCII = bytes(range(128, 256))
_SILENT = bytes(range(97, 123)) + _UPPER + _DIGITS + _BREAKS + b" " + _NOT_ASCII
"""What is left without these is punctuation."""
_LEADS = (
    (bytes(range(0xC2, 0xE0)), 0.8),  # Latin with accents, Greek, Cyrillic, Hebrew, Arabic
    (b"\xe0", 1.5),  # Indic scripts, Thai
    (b"\xe1", 2.5),  # Georgian, Ethiopic, Khmer
    (b"\xe2", 1.5),  # typographic signs, arrows, boxes
    (bytes(range(0xE3, 0xF0)), 1.25),  # Chinese, Japanese, Korean
    (bytes(range(0xF0, 0xF5)), 3.0),  # emoji
)
"""The first bytes of UTF-8 characters, and the tokens each takes."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    """`system`, `user` or `assistant`."""
    content: str


class ReplyListener(Protocol):
    """Hears a reply while it is written. What it hears may come to nothing: a reply is one only when it is whole."""

    def restart(self) -> None:
        """Forget what was heard: an attempt begins."""

    def feed(self, text: str) -> None:
        """Take what the text goes on with."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One chat completion."""

    model: str
    """Any litellm model name."""
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    """Further litellm parameters: temperature, api_base, api_key, timeout ..."""
    grows: bool = False
    """A longer request that begins with the same messages follows, so a provider's prefix cache is worth its price."""
    transport: str = "auto"
    """Who carries it: `auto`, or `litellm`."""
    listener: ReplyListener | None = field(default=None, compare=False, repr=False)
    """Hears the text of the reply while it comes, where the transport can stream it; None: nobody reads along."""

    @property
    def chars(self) -> int:
        return sum(len(message.content) for message in self.messages)

    @property
    def output_bound(self) -> int | None:
        """Return the most the reply may hold, by whichever name it was given; None: the provider's own limit."""
        named = (self.params.get(name) for name in OUTPUT_BOUNDS)
        return self.max_tokens or next((bound for bound in named if _is_count(bound)), None)

    def with_output_bound(self, tokens: int) -> ModelRequest:
        """Return the same request with another bound, by the name it has or by `max_tokens`."""
        names = [name for name in OUTPUT_BOUNDS if name in self.params]
        if not names:
            return replace(self, max_tokens=tokens)
        params = {name: value for name, value in self.params.items() if name not in OUTPUT_BOUNDS}
        return replace(self, max_tokens=None, params={**params, names[0]: tokens})

    def with_bound_named(self, name: str) -> ModelRequest:
        """Return the same request, with the bound of its reply under this name."""
        bound = self.output_bound
        if bound is None:
            return self
        params = {key: value for key, value in self.params.items() if key not in OUTPUT_BOUNDS}
        if name == "max_tokens":
            return replace(self, max_tokens=bound, params=params)
        return replace(self, max_tokens=None, params={**params, name: bound})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Input tokens the provider served from its prefix cache; part of `input_tokens`."""
    reasoning_tokens: int = 0
    """Output tokens spent on thinking; part of `output_tokens`."""
    estimated: bool = False
    """The provider counted nothing, or nothing that can be: some of these numbers are our estimates."""
    cache_write_tokens: int = 0
    """Input tokens the provider stored in its prefix cache; part of `input_tokens`."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def sum_of(usages: Iterable[Usage]) -> Usage:
    """Sum up the tokens of several replies."""
    total = Usage()
    for each in usages:
        total = Usage(
            total.input_tokens + each.input_tokens,
            total.output_tokens + each.output_tokens,
            total.cached_tokens + each.cached_tokens,
            total.reasoning_tokens + each.reasoning_tokens,
            total.estimated or each.estimated,
            total.cache_write_tokens + each.cache_write_tokens,
        )
    return total


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One reply, as it came; `core.reply` says what it is worth. `text` is empty where the provider sent none."""

    text: str
    finish_reason: str = "stop"
    """The provider's own word: `stop`, `length`, `MAX_TOKENS`, `content_filter`, `refusal`, `error` ..."""
    usage: Usage = Usage()
    cost_usd: float | None = None
    """None where the price is not known; never 0 for that."""
    tool_call: bool = False
    """The model called a tool although it was given none."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The provider's rate-limit headers, lower case."""
    at: float = 0.0
    """Unix time at which it was there; the clock of the code it holds stands at that moment."""
    recorded: bool = False
    """It comes from the record of an earlier attempt of the run."""
    reasoning: str = ""
    """What the model thought, where that is known; for the record, never part of an answer."""
    refusal: str = ""
    """Why the model will not answer, in its own words."""
    code: str = ""
    """Python that a tool call holds."""
    model: str = ""
    """The model that answered, by the provider's own name; empty where it does not say."""
    id: str = ""
    """The provider's name of this reply."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How many tokens a family of tokenizers makes, beside that of GPT-4 (`cl100k_base`)."""

    words: float = 1.0
    """For ASCII text."""
    digit: float = 0.42
    """For each digit; 1 where numbers are cut into digits."""
    scripts: float = 1.0
    """For what is not ASCII."""


_FAMILIES = (
    (re.compile(r"gpt-4o|gpt-4\.[1-9]|gpt-5|gpt-oss|chatgpt|(^|/)o\d"), Tokenizer(scripts=0.75)),
    (re.compile(r"gpt-4|gpt-3\.5"), Tokenizer()),
    (re.compile(r"claude|anthropic"), Tokenizer(1.3, 0.6, 1.2)),
    (re.compile(r"qwen|deepseek|glm|kimi|minimax|yi-"), Tokenizer(1.1, 1.0, 0.9)),
    (re.compile(r"gemini|gemma"), Tokenizer(1.1, 1.0, 0.9)),
    (re.compile(r"llama-?[34]|nemotron"), Tokenizer()),
    (re.compile(r"llama|mi[sx]tral|phi-?3|vicuna"), Tokenizer(1.2, 1.0, 2.0)),
)
_UNKNOWN = Tokenizer(1.05, 0.6, 1.2)


@lru_cache(maxsize=1_000)
def tokenizer_of(model: str) -> Tokenizer:
    """Return the tokenizer for a model's name; a cautious one for an unknown name."""
    name = model.lower()
    return next((family for names, family in _FAMILIES if names.search(name)), _UNKNOWN)


def estimate_max_usage(request: ModelRequest) -> Usage:
    """Return the tokens to reserve for a request."""
    return Usage(_most_input(request), request.output_bound or UNBOUNDED_OUTPUT_TOKENS)


def request_tokens(request: ModelRequest) -> int:
    """Estimate the input tokens of a request."""
    text = sum(text_tokens(message.content, request.model) for message in request.messages)
    return text + TOKENS_PER_MESSAGE * len(request.messages) + 1


def text_tokens(text: str, model: str = "") -> int:
    """Estimate the tokens of a text for this model; 0 for an empty one."""
    if len(text) <= SAMPLE_CHARS * SAMPLES:
        return _tokens_of_message(text, tokenizer_of(model))
    step = len(text) // SAMPLES
    sample = "".join(text[at : at + SAMPLE_CHARS] for at in range(0, step * SAMPLES, step))
    return _tokens(sample, tokenizer_of(model)) * len(text) // len(sample)


def credible_usage(request: ModelRequest, reply: ModelReply) -> Usage:
    """Return the usage that a reply is settled at: the provider's count, or the estimate of what it did not count."""
    usage, written = reply.usage, reply.text + reply.reasoning
    counted_input = 0 < usage.input_tokens <= MAX_CREDIBLE_TOKENS
    counted_output = 0 < usage.output_tokens <= MAX_CREDIBLE_TOKENS
    if counted_input and (counted_output or (usage.output_tokens == 0 and not written)):
        return usage
    read = usage.input_tokens if counted_input else _most_input(request)
    output = max(text_tokens(written, request.model), _rule_of_thumb(len(written)))
    if counted_output:  # without an input it may be the total of both
        output = max(usage.output_tokens - read, output)
    return Usage(read, output, usage.cached_tokens if counted_input else 0, estimated=True)


def _most_input(request: ModelRequest) -> int:
    """Return what a budget reserves, and is charged where the provider counts nothing: the larger of two estimates."""
    chars = sum(len(message.content) for message in request.messages)
    return max(request_tokens(request), _rule_of_thumb(chars))


def _rule_of_thumb(chars: int) -> int:
    """Count four characters a token: as servers count that have no tokenizer at hand."""
    return chars // 4


@lru_cache(maxsize=128)
def _tokens_of_message(text: str, tokenizer: Tokenizer) -> int:
    """Count the tokens of a message, once: a session sends its messages again with each turn, and the system prompt is everybody's."""
    return _tokens(text, tokenizer)


def _tokens(text: str, tokenizer: Tokenizer) -> int:
    data = text.encode("utf-8", "replace")
    ascii_only = len(data) == len(text)
    others = 0 if ascii_only else len(data) - _count_without(data, _NOT_ASCII)
    upper, digits, breaks = (len(data) - _count_without(data, kind) for kind in (_UPPER, _DIGITS, _BREAKS))
    punctuation = _count_without(data, _SILENT)
    lower = len(data) - others - upper - digits - breaks - punctuation
    words = 0.2 * lower + 0.35 * upper + 0.3 * breaks + 0.65 * punctuation + DENSE_EXTRA * _dense(data)
    tokens = tokenizer.words * words + tokenizer.digit * digits
    if others:
        tokens += tokenizer.scripts * sum(
            weight * (len(data) - _count_without(data, leads)) for leads, weight in _LEADS
        )
    return int(tokens * MARGIN) + bool(text)


def _dense(data: bytes) -> int:
    """Count the characters in runs that no language has. Only long words are looked into: most are short."""
    long = [word for word in data.split() if len(word) >= DENSE_CHARS]
    return sum(len(run) for word in long for run in _DENSE.findall(word))


def _count_without(data: bytes, kind: bytes) -> int:
    """Count the bytes that are of another kind."""
    return len(data.translate(None, kind))


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, the same for any amount."""

    input_usd: float
    output_usd: float
    cached_usd: float | None = None
    """Input served from the provider's prefix cache; None: as other input."""
    cache_write_usd: float | None = None
    """Input stored in the provider's prefix cache; None: as other input."""

    def cost(self, usage: Usage) -> float:
        """Return US dollars for this usage."""
        cached_usd = self.input_usd if self.cached_usd is None else self.cached_usd
        write_usd = self.input_usd if self.cache_write_usd is None else self.cache_write_usd
        fresh = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        spent = (
            fresh * self.input_usd
            + usage.cached_tokens * cached_usd
            + usage.cache_write_tokens * write_usd
            + usage.output_tokens * self.output_usd
        )
        return spent / 1e6
