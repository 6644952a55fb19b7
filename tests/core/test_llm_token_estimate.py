"""Tokens before anybody has counted them: never far below what a tokenizer makes of a text."""

import base64
import json
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.core.llm import SAMPLE_CHARS, SAMPLES, text_tokens, tokenizer_of

DRAW = random.Random(1)
LONG = SAMPLE_CHARS * SAMPLES

TEXTS = {
    "English": (
        "The quick brown fox jumps over the lazy dog, and then it sleeps under the old tree. " * 40,
        801,
    ),
    "JSON": (json.dumps([{"id": i, "name": f"user{i}", "ok": True} for i in range(100)]), 1801),
    "base64": (base64.b64encode(DRAW.randbytes(3000)).decode(), 2857),
    "hexadecimal": (DRAW.randbytes(3000).hex(), 3362),
    "UUIDs": ("\n".join(str(uuid.UUID(int=DRAW.getrandbits(128))) for _ in range(80)), 1888),
    "digits": ("".join(DRAW.choice("0123456789") for _ in range(3000)), 1000),
    "punctuation": ("".join(DRAW.choice("!@#$%^&*()_+-=[]{};:'\",.<>/?|`~") for _ in range(3000)), 1950),
    "Chinese": ("中国是世界上历史最悠久的国家之一、有着光辉灿烂的文化。" * 20, 640),
    "Korean": ("대한민국의 수도는 서울입니다. 인공지능은 우리의 삶을 바꾸고 있습니다." * 20, 720),
    "Arabic": ("الذكاء الاصطناعي يغير حياتنا. القاهرة هي عاصمة مصر." * 20, 760),
    "Hindi": ("कृत्रिम बुद्धिमत्ता हमारे जीवन को बदल रही है। दिल्ली भारत की राजधानी है।" * 20, 1500),
    "Amharic": ("ሰው ሰራሽ የማሰብ ችሎታ ህይወታችንን እየቀየረ ነው።" * 20, 1620),
    "emoji": ("😀😃😄😁🚀🎉👩‍👩‍👧🏽🇩🇪" * 50, 1800),
}
"""Texts, and the tokens that GPT-4's tokenizer makes of them, about."""


@pytest.mark.parametrize("name", TEXTS)
def test_an_estimate_is_rather_too_high_and_not_by_far(name):
    text, tokens = TEXTS[name]
    assert 0.95 * tokens <= text_tokens(text, "openai/gpt-4") <= 3 * tokens
    assert text_tokens(text) >= text_tokens(text, "openai/gpt-4")


@pytest.mark.parametrize(
    ("model", "like"),
    [
        ("openai/gpt-4o-mini", "gpt-5"),
        ("azure/o3-mini", "gpt-5"),
        ("openrouter/anthropic/claude-sonnet-4", "claude-3"),
        ("groq/llama-3.3-70b", "llama3"),
        ("hosted_vllm/Qwen/Qwen3-8B", "deepseek-chat"),
    ],
)
def test_models_of_one_family_share_a_tokenizer(model, like):
    assert tokenizer_of(model) == tokenizer_of(like) != tokenizer_of("nobody/knows")


def test_a_long_text_is_estimated_by_an_even_sample():
    half = LONG * 4
    prose, blob = "the old tree " * (half // 13), base64.b64encode(DRAW.randbytes(half * 3 // 4)).decode()
    together = text_tokens(prose, "gpt-4") + text_tokens(blob, "gpt-4")
    assert text_tokens(prose + blob, "gpt-4") == pytest.approx(together, rel=0.1)


def test_long_text_has_as_many_tokens_as_its_parts():
    parts = 100 * text_tokens("the old tree " * 100, "gpt-4")
    assert text_tokens("the old tree " * 10_000, "gpt-4") == pytest.approx(parts, rel=0.05)


def test_thirty_two_samples_of_a_thousand_characters_are_read_of_a_long_text():
    read, skipped = "a " * 512, "7 " * 512
    assert text_tokens((read + skipped) * 32, "gpt-4") == text_tokens(read * 64, "gpt-4")
    assert text_tokens(read * 31 + skipped, "gpt-4") > text_tokens(read * 32, "gpt-4")


def test_nothing_has_no_tokens():
    assert text_tokens("") == 0


@given(st.text())
def test_any_text_has_at_least_one_token_and_no_more_than_bytes_allow(text):
    assert bool(text) <= text_tokens(text) <= 4 * len(text.encode("utf-8", "replace")) + 1


def test_surrogates_are_estimated_too():
    assert text_tokens("\ud83d" * 10) > 0


@pytest.mark.parametrize(
    ("letter", "tokens"),
    [
        ("a", (72, 93, 75)), ("A", (89, 116, 93)), ("7", (97, 132, 120)), ("\n", (35, 45, 37)), (".", (75, 98, 79)), (" ", (24, 30, 25)), ("é", (93, 111, 111)),
        ("अ", (173, 207, 207)), ("ა", (288, 346, 346)), ("→", (173, 207, 207)), ("語", (144, 173, 173)), ("🙂", (346, 414, 414)),
    ],
)  # fmt: skip
def test_hundred_characters_of_a_kind_are_so_many_tokens_of_a_family(letter, tokens):
    assert tuple(text_tokens(letter * 100, model) for model in ("gpt-4", "claude", "x")) == tokens


@pytest.mark.parametrize(
    ("model", "words", "digit", "scripts"),
    [
        ("openai/gpt-4o-mini", 1.0, 0.42, 0.75),
        ("gpt-4.1", 1.0, 0.42, 0.75),
        ("openrouter/o3", 1.0, 0.42, 0.75),
        ("gpt-4-turbo", 1.0, 0.42, 1.0),
        ("azure/GPT-3.5", 1.0, 0.42, 1.0),
        ("anthropic/claude-opus", 1.3, 0.6, 1.2),
        ("hosted_vllm/Qwen/Qwen3-8B", 1.1, 1.0, 0.9),
        ("gemini/gemini-pro", 1.1, 1.0, 0.9),
        ("meta/llama-3-8b", 1.0, 0.42, 1.0),
        ("llama2", 1.2, 1.0, 2.0),
        ("mistral/mixtral", 1.2, 1.0, 2.0),
        ("somebody/else", 1.05, 0.6, 1.2),
        ("", 1.05, 0.6, 1.2),
    ],
)
def test_tokenizer_is_that_of_the_family_of_a_model(model, words, digit, scripts):
    found = tokenizer_of(model)
    assert (found.words, found.digit, found.scripts) == (words, digit, scripts)


@pytest.mark.parametrize(
    ("kind", "edges"),
    [
        ("a", "az"), ("A", "AZ"), ("7", "09"), ("\n", "\t\r"), (".", "!/:@[`{~"), ("é", "\x80\u07ff"), ("अ", "\u0800\u0fff"), ("ა", "\u1000\u1fff"),
        ("→", "\u2000\u2fff"), ("語", "\u3000\uffff"), ("🙂", "\U00010000\U0010ffff"),
    ],
)  # fmt: skip
def test_first_and_last_characters_of_a_kind_are_of_it(kind, edges):
    for edge in edges:
        assert text_tokens(f"{edge} " * 50, "gpt-4") == text_tokens(f"{kind} " * 50, "gpt-4")


@pytest.mark.parametrize(("chars", "extra"), [(23, 0), (24, 0.42 * 24), (25, 0.42 * 25)])
def test_word_of_twenty_four_letters_is_no_word_of_a_language(chars, extra):
    assert text_tokens("a" * chars, "gpt-4") == 1 + int((0.2 * chars + extra) * 1.15)
