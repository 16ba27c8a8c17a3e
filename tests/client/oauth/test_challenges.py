# SPDX-License-Identifier: MIT
"""`WWW-Authenticate` as servers write it, and as strangers do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.client.oauth.challenges import (
    MAX_CHALLENGE,
    MAX_CHALLENGE_PARAMS,
    MAX_CHALLENGES,
    MAX_SCOPE,
    MAX_SCOPES,
    Challenge,
    TokenWanted,
    parse_challenges,
    sound_scopes,
    split_scope,
    wanted_in,
)


@pytest.mark.parametrize(
    "lines, found",
    [
        ([], []),
        ([""], []),
        ([" , ,"], []),
        (["Bearer"], [("bearer", {})]),
        (["bearer "], [("bearer", {})]),
        (["Bearer realm=x"], [("bearer", {"realm": "x"})]),
        (['Bearer realm="a, b", scope="c d"'], [("bearer", {"realm": "a, b", "scope": "c d"})]),
        (['Bearer realm = "a" ,scope= x'], [("bearer", {"realm": "a", "scope": "x"})]),
        ([r'Bearer realm="say \"hi\" \\"'], [("bearer", {"realm": r'say "hi" \ '.strip()})]),
        (["BEARER Realm=x, REALM=y"], [("bearer", {"realm": "x"})]),
        (["Negotiate abc==, Bearer a=b"], [("negotiate", {}), ("bearer", {"a": "b"})]),
        (["Negotiate, Basic realm=x, Bearer"], [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {})]),
        (["Basic realm=x", "Bearer a=b"], [("basic", {"realm": "x"}), ("bearer", {"a": "b"})]),
        # What is no challenge is passed over, and what follows is read.
        (['Bearer a="open, b=c'], [("bearer", {"b": "c"})]),
        (["Bearer a=b c, d=e"], [("bearer", {"d": "e"})]),
        (["a=b, Bearer c=d"], [("bearer", {"c": "d"})]),
        (["Bearer \x00=x, a=b"], [("bearer", {"a": "b"})]),
        (["(), Bearer a=b"], [("bearer", {"a": "b"})]),
    ],
)  # fmt: skip
def test_challenges_are_read(lines: list[str], found: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(lines) == [Challenge(scheme, params) for scheme, params in found]


def test_what_the_challenge_for_a_token_asks_for() -> None:
    metadata = "https://mcp.test/.well-known/oauth-protected-resource"
    lines = [f'Basic scope="no", Bearer resource_metadata="{metadata}", scope="a b a", error="invalid_token"']
    assert wanted_in(lines) == TokenWanted(metadata, ("a", "b"), "invalid_token")
    assert wanted_in(['DPoP algs="ES256", scope="a"']) == TokenWanted(scopes=("a",))
    assert wanted_in(['DPoP scope="a"', 'Bearer scope="b"']) == TokenWanted(scopes=("b",))
    assert wanted_in(['Bearer scope="", resource_metadata=""']) == TokenWanted()
    # A parameter of another scheme is none of the token's.
    assert wanted_in(['Basic resource_metadata="https://evil.test"']) == TokenWanted()
    assert wanted_in(['Bearer, Basic resource_metadata="https://evil.test"']) == TokenWanted()


TOKEN = st.text("abcXYZ019-._~!#$%&'*+^`|", min_size=1, max_size=8)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
CHALLENGE = st.tuples(TOKEN, st.dictionaries(TOKEN.map(str.lower), TEXT, max_size=4))


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(st.lists(CHALLENGE, max_size=4), st.sampled_from([", ", ",", " ,  "]))
def test_what_is_written_by_the_grammar_is_read_back(written: list[tuple[str, dict[str, str]]], comma: str) -> None:
    text = comma.join(
        f"{scheme} {comma.join(f'{name}={quoted(value)}' for name, value in params.items())}".strip()
        for scheme, params in written
    )
    # "a" followed by "b=..." of the next challenge would be its parameter: a scheme alone stands last, or before one.
    assert parse_challenges([text]) == [Challenge(scheme.lower(), params) for scheme, params in written]


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=200), max_size=3))
def test_no_text_breaks_the_reader(lines: list[str]) -> None:
    for challenge in parse_challenges(lines):
        assert challenge.scheme and challenge.scheme == challenge.scheme.lower()
    wanted_in(lines)


@given(st.text(' ,="\\aB', max_size=60))
def test_no_order_of_the_grammars_own_characters_breaks_the_reader(text: str) -> None:
    assert len(parse_challenges([text])) <= MAX_CHALLENGES


def test_the_limits_of_a_header() -> None:
    end = ", Bearer a=b"
    assert parse_challenges(["," * (MAX_CHALLENGE - len(end)) + end])[-1] == Challenge("bearer", {"a": "b"})
    # One past it: the last character is not read.
    assert parse_challenges(["," * (MAX_CHALLENGE - len(end) + 1) + end])[-1] == Challenge("bearer", {})
    many = [f"s{number}" for number in range(MAX_CHALLENGES + 1)]
    assert len(parse_challenges(many[:-1])) == len(parse_challenges(many)) == MAX_CHALLENGES
    params = ", ".join(f"p{number}=v" for number in range(MAX_CHALLENGE_PARAMS + 1))
    assert len(parse_challenges([f"Bearer {params}"])[0].params) == MAX_CHALLENGE_PARAMS


def test_scopes_of_a_stranger() -> None:
    assert split_scope(' a  b:c a "x" \\ é d') == ("a", "b:c", "d")
    assert sound_scopes(["a", 5, None, "", "b c", "a"]) == ("a",)
    assert sound_scopes(["x" * MAX_SCOPE, "y" * (MAX_SCOPE + 1)]) == ("x" * MAX_SCOPE,)
    many = [str(number) for number in range(MAX_SCOPES + 1)]
    assert sound_scopes(many) == tuple(many[:-1])
