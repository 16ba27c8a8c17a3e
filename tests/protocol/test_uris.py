# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.protocol.uris import normal, normal_part, normal_template, spellings


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        # RFC 3986, 6.2.2: "example://a/b/c/%7Bfoo%7D" and "eXAMPLE://a/./b/../b/%63/%7bfoo%7d", but for its segments
        ("eXAMPLE://a/b/%63/%7bfoo%7d", "example://a/b/c/%7Bfoo%7D"),
        ("notes://docs/café", "notes://docs/caf%C3%A9"),
        ("notes://docs/caf%c3%a9", "notes://docs/caf%C3%A9"),
        ("notes://docs/caf%C3%A9", "notes://docs/caf%C3%A9"),
        ("a:%41%5A%61%7a%30%39%2D%2e%5f%7E", "a:AZaz09-._~"),
        # What is reserved means something else when it is encoded.
        ("a:%2f%3a%3F%23%40%26%3D%2B%25%20", "a:%2F%3A%3F%23%40%26%3D%2B%25%20"),
        # Twice encoded is not once encoded.
        ("a:%2541", "a:%2541"),
        ("a:%252e%252e", "a:%252e%252e"),
        # Segments are not resolved.
        ("a://b/c/../d/./e", "a://b/c/../d/./e"),
        ("a://b/%2e%2E/d", "a://b/../d"),
        # Hosts where there are hosts
        ("HTTP://User%3a@Example.COM:80/A", "http://User%3A@example.com:80/A"),
        ("FILE://README.md", "file://README.md"),
        ("https://EXAMPLE.com", "https://example.com"),
        ("https://EXAMPLE.com?Q", "https://example.com?Q"),
        ("wss://a@b@C/D@E", "wss://a@b@c/D@E"),
        ("https:/Path", "https:/Path"),
        # and names where there are names
        ("USERS://Alice", "users://Alice"),
        # Malformed ones stay, or a percent-encoding could come out of what was none.
        ("a:%", "a:%"),
        ("a:%4", "a:%4"),
        ("a:%%34%31", "a:%%34%31"),
        ("a:%zz%c3", "a:%zz%c3"),
        ("A:\ud800%c3", "A:\ud800%c3"),
        ("no scheme:X", "no scheme:X"),
        ("", ""),
        ("1A:b", "1A:b"),
        (":%41", ":A"),
    ],
)
def test_a_uri_has_one_spelling(uri: str, wanted: str) -> None:
    assert normal(uri) == wanted
    assert normal(wanted) == wanted


@given(st.text(alphabet="aZ0%4eEcC3fF/:?#@.~é ", max_size=30))
def test_normalization_keeps_what_a_uri_says(uri: str) -> None:
    once = normal(uri)
    assert normal(once) == once
    before, after = unquote_to_bytes(uri), unquote_to_bytes(once)
    assert before.lower() == after.lower()
    # No reserved character comes out of its encoding, and none goes into one.
    for reserved in "/:?#@":
        assert uri.count(reserved) == once.count(reserved)


@given(st.text(alphabet="aZ0%4eEcC3/", max_size=20))
def test_a_piece_has_the_encodings_of_the_whole(text: str) -> None:
    found = normal_part(text)
    well_formed = text.count("%") == len(re.findall("%[0-9A-Fa-f]{2}", text))
    assert found == text if not well_formed else unquote_to_bytes(found) == unquote_to_bytes(text)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("NOTES://Docs/{Name}/caf%c3%a9", "notes://Docs/{Name}/caf%C3%A9"),
        ("notes://é/{x}", "notes://%C3%A9/{x}"),
        ("HTTPS://Api.{Region}.Example.COM/Path/{X}", "https://api.{Region}.example.com/Path/{X}"),
        ("https://{Host}/A/{B}C", "https://{Host}/A/{B}C"),
        ("{+Whole}", "{+Whole}"),
        ("{scheme}://A/{x}%7e", "{scheme}://A/{x}~"),
        ("users://{Name}.Com", "users://{Name}.Com"),
        ("a:{\ud800}%7e", "a:{\ud800}%7e"),
        ("a:{{x}", "a:{{x}"),
    ],
)
def test_a_template_has_its_literals_in_that_spelling(template: str, wanted: str) -> None:
    assert normal_template(template) == wanted


def test_spellings_are_those_that_differ() -> None:
    assert spellings(["a:b", "A:c", "a:%7e"]) == {"a:c": "A:c", "a:~": "a:%7e"}
