"""What a context URI leads to, and which of them an allow-list lets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.errors import ConfigError, InputError
from rlm_ray.serve.context_uris import allowed_uris, locate

ALLOWED = allowed_uris(
    [
        "https://wiki.example.org/",
        "https://docs.example.org/team/a b/",
        "http://[2001:DB8::1]:8080/x/",
        "https://bücher.example/",
        "s3://team/",
        "s3://shared/reports/",
        "file:///data/texts/",
        "memory://team/",
        "abfs://box@account.dfs.core.windows.net/texts/",
    ]
)

REFUSED = """
https://wiki.example.org%2F@169.254.169.254/
https://wiki.example.org/@169.254.169.254/../
https://wiki.example.org@169.254.169.254/
https://wiki.example.org:443@169.254.169.254/
https://user:secret@wiki.example.org/
https://@wiki.example.org/
https://wiki.example.org\\@169.254.169.254/
https://wiki.example.org\\.evil.example/
https:\\\\wiki.example.org/
https:/wiki.example.org/
https:wiki.example.org/
https://wiki.example.org.evil.example/
https://evil.example/https://wiki.example.org/
https://evil.example#https://wiki.example.org/
https://evil.example?https://wiki.example.org/
https://wiki.example.org:8443/
https://wiki.example.org:0/
https://wiki.example.org:99999/
https://wiki.example.org:44x/
https://wiki.example.org..//
https://wiki%2eexample.org/
http://wiki.example.org/
https://WIKI.example.org.:80/
ftp://wiki.example.org/
https://
https:///wiki.example.org/
https://docs.example.org/team/a%20b/../c
https://docs.example.org/team/a%20b/%2e%2e/c
https://docs.example.org/team/a%20b/%252e%252e/c
https://docs.example.org/team/a%20b/%25252e%25252E/c
https://docs.example.org/team/a%20b/.%2e/c
https://docs.example.org/team/a%20b/..;/c
https://docs.example.org/team/a%20b/..%2fc
https://docs.example.org/team/a%20b/..%5cc
https://docs.example.org/team/a%20b/x%2fy
https://docs.example.org/team/a%20b/x%5cy
https://docs.example.org/team/a%20b/x%00
https://docs.example.org/team/a%20b/x%0d%0aHost:evil
https://docs.example.org/team/a%2520b/x
https://docs.example.org/team/a%20bc/x
https://docs.example.org/team/A%20B/x
https://docs.example.org/team
https://docs.example.org//team/a%20b/x
https://docs.example.org/team/a%20b/\uff0e\uff0e/c
https://docs.example.org/team/a%20b/\uff0e\uff0e\uff0fc
http://[2001:db8::1]/x/y
http://[2001:db8::2]:8080/x/y
http://[2001:db8::1%25eth0]:8080/x/y
http://[::ffff:1.2.3.4]/x/y
http://2001:db8::1:8080/x/y
http://[2001:db8::1/x/y
https://bucher.example/
s3://team/../other/a.txt
s3://team/%2e%2e/other/a.txt
s3://team/./../other/a
s3://team/a::file:///etc/passwd
s3://team.evil/a
s3://team@evil/a
s3://team
s3://shared/report
s3://shared/reports-of-others/a
s3a://team/a
simplecache::https://wiki.example.org/a
simplecache::s3://team/a
filecache::file:///etc/passwd
zip://a.txt::s3://team/a.zip
file:///etc/passwd
file://localhost/etc/passwd
file://evil/data/texts/a
file:/data/texts/a
file:///data/texts/../secret
file:///data/texts/..%2fsecret
file:////data/texts/a
file:///data/textsx/a
file://data/texts/a
/data/texts/a
memory://other/a
memory://team/../other/a
memory:///team/a
abfs://evil@account.dfs.core.windows.net/texts/a
data:text/plain,hello
javascript:alert(1)
""".strip().splitlines()


@pytest.mark.parametrize("uri", [*REFUSED, "", " ", "https://wiki.example.org/" + "a" * 5000])
def test_what_leads_elsewhere_or_could_be_read_in_two_ways_is_refused(uri):
    assert not lets(uri)


@pytest.mark.parametrize(
    "character", ["\r", "\n", "\t", "\0", "\x7f", "\x85", "\u2028", "\u202e", "\u200b", "\udcff"]
)
@pytest.mark.parametrize(
    "uri",
    [
        "https://wiki.example.org{}/a",
        "https://wiki.example.org/a{}b",
        "s3://team/a{}",
        "ht{}tps://wiki.example.org/",
    ],
)
def test_control_characters_are_refused_wherever_they_stand(character, uri):
    assert not lets(uri.format(character))


@pytest.mark.parametrize(
    ("uri", "fetched"),
    [
        ("https://wiki.example.org/", "https://wiki.example.org/"),
        ("https://wiki.example.org", "https://wiki.example.org/"),
        ("https://wiki.example.org/a", "https://wiki.example.org/a"),
        ("HTTPS://WIKI.Example.ORG/A", "https://wiki.example.org/A"),
        ("https://wiki.example.org:443/a", "https://wiki.example.org/a"),
        ("https://wiki.example.org:/a", "https://wiki.example.org/a"),
        ("https://wiki.example.org./a", "https://wiki.example.org/a"),
        ("https://wiki。example。org/a", "https://wiki.example.org/a"),
        ("https://\uff57\uff49\uff4b\uff49.example.org/a", "https://wiki.example.org/a"),
        ("https://wiki.example.org/a?b=../c&d=https://x", "https://wiki.example.org/a?b=../c&d=https://x"),
        ("https://wiki.example.org/a#b", "https://wiki.example.org/a"),
        ("https://wiki.example.org#@evil.example/", "https://wiki.example.org/"),
        ("https://wiki.example.org/@user/a:b;c=1,2", "https://wiki.example.org/@user/a:b;c=1,2"),
        ("https://wiki.example.org/é", "https://wiki.example.org/%C3%A9"),
        ("https://wiki.example.org/100%25", "https://wiki.example.org/100%25"),
        ("https://wiki.example.org/a..b/...", "https://wiki.example.org/a..b/..."),
        ("https://docs.example.org/team/a%20b/x", "https://docs.example.org/team/a%20b/x"),
        ("https://docs.example.org/team/a b/x", "https://docs.example.org/team/a%20b/x"),
        ("http://[2001:db8:0::1]:8080/x/y", "http://[2001:db8::1]:8080/x/y"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x"),
        ("s3://team/a b.txt", "s3://team/a b.txt"),
        ("S3://team/a#1?.txt", "s3://team/a#1?.txt"),
        ("s3://shared/reports/2026/a", "s3://shared/reports/2026/a"),
        ("file:///data/texts/a", "file:///data/texts/a"),
        ("file://localhost/data/texts/a", "file:///data/texts/a"),
        ("FILE://LOCALHOST/data/texts/a", "file:///data/texts/a"),
        ("local:///data/texts/a", "file:///data/texts/a"),
        ("memory://team/a", "memory://team/a"),
        ("abfs://box@account.dfs.core.windows.net/texts/a", "abfs://box@account.dfs.core.windows.net/texts/a"),
    ],
)  # fmt: skip
def test_what_lies_below_a_prefix_is_fetched_as_it_was_compared(uri, fetched):
    assert lets(uri)
    assert locate(uri).uri == fetched
    assert locate(fetched) == locate(uri)


@pytest.mark.parametrize(
    "prefix",
    ["https://wiki.example.org", "s3://team", "s3://team/a", "file:///data", "wiki.example.org/", "/data/", "",
     "https://user@wiki.example.org/", "https://wiki.example.org/a/../", "https://wiki.example.org/?a/",
     "https://wiki.example.org/#/", "https://*/", "simplecache::https://wiki.example.org/", "file://host/data/"],
)  # fmt: skip
def test_a_prefix_that_is_no_folder_is_refused_before_anything_starts(prefix):
    with pytest.raises(ConfigError, match="context_uris"):
        allowed_uris([prefix])


PIECES = st.sampled_from(
    ["https:", "//", "/", "wiki.example.org", "evil", "@", "%2f", "%2e", "..", ".", "\\", "#", "?", ":", "443", "[", "]",
     "::", "%25", "s3:", "team", " ", "\t", ";", "é", "file:", "data", "texts", "localhost"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join))
def test_whatever_is_let_through_is_fetched_from_an_allowed_place(uri):
    if not lets(uri):
        return
    fetched = locate(uri).uri
    starts = ("https://wiki.example.org/", "s3://team/", "file:///data/texts/")
    assert fetched.startswith(starts)
    path = fetched.partition("?")[0].split("://")[1]
    assert not {"..", "."} & set(path.split("/"))
    assert "@" not in path.partition("/")[0]


def lets(uri):
    try:
        return ALLOWED.prefix_of(locate(uri)) is not None
    except InputError as error:
        return not error.why
