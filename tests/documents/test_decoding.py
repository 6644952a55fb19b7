"""Texts that are no UTF-8: what they are taken to be, and what is said of it."""

# ruff: noqa: RUF001 - other scripts are what this is about

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.documents.decoding import check_encoding, decode_anyway, decode_text
from rlm_ray.errors import InputError

GERMAN = "Über die Größe der Häuser schrieb er nähere Sätze, die schön klangen; das Mädchen hörte früh zu. "
RUSSIAN = "Привет, как дела? Это письмо написано на русском языке, и его надо прочитать. "
JAPANESE = "これは日本語の文章です。今日はとても良い天気ですね。漢字も含まれています。"
CHINESE = "这是一个中文句子。今天天气很好,我们一起去公园玩吧。中国的历史很长。"
KOREAN = "이것은 한국어 문장입니다. 오늘은 날씨가 아주 좋네요. 함께 공원에 갑시다."


@pytest.mark.parametrize("times", [1, 300])
@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", GERMAN),
        (
            "latin-1",
            "Les élèves étaient très fatigués après la journée à l'école, où le maître français répétait ça. ",
        ),
        ("cp1252", "¿Qué pasó ayer? El niño comió piña — mañana será otro día, señor, según dijo él. "),
        ("cp1252", "The café\u2019s résumé — \u201cnaïve\u201d — cost £5 and 10 €, it\u2019s said… "),
        ("iso8859-15", "Tämä on hyvä päivä, sillä järvi on jäässä ja yö on pitkä. "),
        ("cp1250", "Może być, że mały chłopiec zjadł żółty ser; wiadomość była ważna i później wróciła. "),
        ("iso8859-2", "Może być, że mały chłopiec zjadł żółty ser; wiadomość była ważna i później wróciła. "),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp866", RUSSIAN),
        ("shift_jis", JAPANESE),
        ("euc-jp", JAPANESE),
        ("gb18030", CHINESE),
        ("big5", "這是一個中文句子。今天天氣很好,我們一起去公園玩吧。中國的歷史很長。"),
        ("euc-kr", KOREAN),
        ("cp1253", "Αυτό είναι ένα ελληνικό κείμενο και πρέπει να διαβαστεί σωστά σήμερα. "),
        ("cp1256", "هذا نص باللغة العربية ويجب أن يقرأ بشكل صحيح اليوم في المدينة. "),
        ("cp1255", "זהו טקסט בעברית וצריך לקרוא אותו נכון היום בעיר הגדולה. "),
        ("utf-16-le", "Plain text without a mark, in two bytes each. "),
        ("utf-16-be", "Plain text without a mark, in two bytes each. "),
    ],
)
def test_encoding_is_guessed_and_named(encoding, text, times):
    decoded = decode_text((text * times).encode(encoding), "a.txt")
    assert decoded.text == text * times
    assert decoded.guessed


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        (b"", ""),
        ("größe".encode(), "größe"),
        (codecs.BOM_UTF8 + b"marked", "marked"),
        ("größe".encode("utf-16"), "größe"),
        ("größe".encode("utf-32"), "größe"),
        (b"zero \0 byte", "zero \0 byte"),
    ],
)
def test_what_is_certain_is_no_guess(data, text):
    decoded = decode_text(data, "a.txt")
    assert (decoded.text, decoded.guessed) == (text, "")


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"caf\xff\x81", b"plain text with one \x81 byte", bytes(range(128, 256)) * 3, b"\xff\xfe\x00"],
)
def test_what_no_encoding_fits_is_refused_by_name(data):
    with pytest.raises(InputError, match=r"a\.txt: .*UTF-8"):
        decode_text(data, "a.txt")
    assert decode_anyway(data).guessed


@pytest.mark.parametrize("cut", [b"\xff", b"\xc3", b"\xe4\xb8"])
@pytest.mark.parametrize("text", [GERMAN, RUSSIAN, CHINESE, KOREAN])
def test_utf8_with_a_broken_character_stays_utf8(text, cut):
    data = text.encode() + cut + b" " + text.encode()
    decoded = decode_text(data, "a.txt")
    assert decoded.text == f"{text}\ufffd {text}"
    assert decoded.guessed == "utf-8 with 1 broken character replaced"


def test_encoding_that_is_given_is_obeyed_where_it_is_no_utf8():
    assert decode_text("Größe".encode("cp437"), "a", "cp437").text == "Größe"
    assert decode_text("Größe".encode(), "a", "cp437").text == "Größe"
    with pytest.raises(InputError, match="a: is broken CP932"):
        decode_text(b"caf\xff\x81", "a", "cp932")


def test_encoding_that_the_text_names_is_believed():
    source = "# -*- coding: koi8-r -*-\nназвание = 'привет'\n"
    assert decode_text(source.encode("koi8-r"), "a.py").text == source
    assert decode_text(b"# coding: base64\nh\xf6ren und sehen\n", "a.py").guessed == "cp1252"


@pytest.mark.parametrize(("given", "known"), [("latin1", "iso8859-1"), ("UTF8", "utf-8"), ("", "")])
def test_names_of_encodings_are_those_of_python(given, known):
    assert check_encoding(given) == known


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13", "hex", "zip", "../x", "a b"])
def test_what_is_no_encoding_of_texts_is_refused(name):
    with pytest.raises(InputError, match="none that Python knows"):
        check_encoding(name)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_text_or_one_sentence(data):
    try:
        decode_text(data, "a").text.encode("utf-8")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert isinstance(decode_anyway(data).text, str)
