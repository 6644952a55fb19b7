"""Messages between processes: plain values and known types, and nothing that the bytes could choose."""

import math
import pickle
from dataclasses import dataclass
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.admission.protocol import (
    AttemptOutcome,
    ClientMessage,
    PermitRequest,
    Resume,
    RunPolicy,
    RunSnapshot,
    ServerMessage,
    Settle,
)
from rlm_ray.admission.server import AdmissionServer
from rlm_ray.core.limits import Amount, Limits, Rates
from rlm_ray.errors import JournalError
from rlm_ray.events.usage import CallStats, RunUsage
from rlm_ray.util.rpc_service import PLAIN, Codec, CodecError, service_of

CODEC = service_of(AdmissionServer).codec

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.binary(), st.text(st.characters())
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.tuples(st.text(), st.integers())), inner),
    ),
)


@given(VALUES)
def test_plain_values_arrive_as_they_were(value):
    assert PLAIN.decode(PLAIN.encode(value)) == value


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "é" * 1000, "𝄞"])
def test_any_text_arrives_lone_surrogates_too(text):
    assert PLAIN.decode(PLAIN.encode(text)) == text


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**400, math.inf, -math.inf])
def test_numbers_are_encoded_without_loss(number):
    assert PLAIN.decode(PLAIN.encode(number)) == number


@pytest.mark.parametrize(
    "message",
    [
        ClientMessage("holder", None),
        ClientMessage(
            "holder",
            "epoch",
            (PermitRequest("run", "key", "model", 2**70, 1, 0.5),),
            (Settle("t", AttemptOutcome.QUOTA_EXHAUSTED, why="\udcff"),),
            ("t",),
            Resume(
                (
                    RunSnapshot(
                        RunPolicy("run", Limits(tokens=5), Rates(rpm=3.5)), usage={("m", 1): CallStats(1)}
                    ),
                )
            ),
            long_poll=True,
        ),
        ServerMessage("epoch"),
        RunUsage({("m", 0): CallStats(1, 2), ("m", 1): CallStats()}, 3),
        RunPolicy("run", spent=Amount(2**80)),
    ],
)
def test_messages_of_the_admission_arrive_equal_and_of_their_type(message):
    arrived = CODEC.decode(CODEC.encode(message))
    assert (arrived, type(arrived)) == (message, type(message))


def test_an_error_of_ours_arrives_with_its_facts():
    error = Codec(JournalError).decode(Codec(JournalError).encode(JournalError("run", "why")))
    assert (type(error), error.what, error.why) == (JournalError, "run", "why")


def test_a_mapping_of_any_kind_arrives_as_a_dict_and_a_list_as_a_tuple():
    assert PLAIN.decode(PLAIN.encode(MappingProxyType({"a": [1, 2]}))) == {"a": (1, 2)}


@dataclass(frozen=True)
class Stranger:
    x: int = 0


@pytest.mark.parametrize("value", [Stranger(), {1, 2}, object(), print, ValueError("x"), complex(1, 2)])
def test_what_is_no_message_is_refused_before_it_is_sent(value):
    with pytest.raises(CodecError, match=r"cannot be sent: .* is no message type"):
        CODEC.encode((value,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\xd4\x7e\x00",
        pickle.dumps(print),
        CODEC.encode(ClientMessage("h", None))[:-3],
        b"\x91\xc7\x00\x00",
        Codec(Stranger).encode(Stranger(1)) + b"x",
        b"\xdb\xff\xff\xff\xff",
    ],
)
def test_what_is_no_message_cannot_be_decoded(data):
    with pytest.raises(CodecError, match=r"cannot be decoded: ."):
        CODEC.decode(data)


@given(st.binary(max_size=200))
def test_random_bytes_make_a_message_or_a_sentence(data):
    try:
        CODEC.decode(data)
    except CodecError as error:
        assert str(error).startswith("cannot be decoded: ")  # noqa: PT017 - most bytes do not raise the same


def test_values_that_a_message_refuses_are_a_sentence_of_the_codec():
    @dataclass(frozen=True)
    class Even:
        n: int

        def __post_init__(self):
            if self.n % 2:
                raise ValueError(f"{self.n} is odd")

    codec = Codec(Even)
    with pytest.raises(CodecError, match="cannot be decoded: 3 is odd"):
        codec.decode(codec.encode(Even(2)).replace(b"\x02", b"\x03"))


def test_another_field_is_another_fingerprint():
    @dataclass(frozen=True)
    class Other:
        y: int = 0

    Other.__qualname__, Other.__module__ = Stranger.__qualname__, Stranger.__module__
    assert Codec(Stranger).fingerprint == Codec(Stranger).fingerprint != Codec(Other).fingerprint
