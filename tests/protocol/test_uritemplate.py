# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import cost

from mcp_h11.protocol.uritemplate import URITemplate, climbs


def test_names_are_those_of_the_template_in_order() -> None:
    template = URITemplate("a://{b.c}/{+d}{?e*,f}{#g}")
    assert template.names == ("b.c", "d", "e", "f", "g")
    assert repr(template) == "URITemplate('a://{b.c}/{+d}{?e*,f}{#g}')"


@pytest.mark.parametrize(
    "template",
    ["{", "}", "a{b", "a}b", "{}", "{a b}", "{a,}", "{!a}", "{=a}", "{a:0}", "{a:10000}", "{a.}", "{a-b}", "a b", "%zz"]
    + ["{a*:3}", "{{a}}", "a\n", 'a"', "{é}", "<a>", "a\\b"],
)
def test_a_template_that_is_none_is_refused_when_made(template: str) -> None:
    with pytest.raises(ValueError, match="URI template|not a variable|without"):
        URITemplate(template)


@pytest.mark.parametrize(
    "template",
    [
        "{a}{b}",
        "{+a}{b}",
        "{a}{+b}",
        "{+a}/{+b}",
        "{/a*}{.b*}",
        "{a:3}",
        "{?a:3}",
        "{;a}",
        "{?a}/b",
        "{a}/{a}",
        "{?a}{a}",
    ]
    + ["{+a*}", "{+a,b}", "{#a,b}", "{#a*}", "a{#b}c", "a?b{?c}", "a{&b}", "{/a*}{b}"],
)
def test_a_template_whose_match_would_be_a_guess_is_refused_when_made(template: str) -> None:
    with pytest.raises(ValueError):
        URITemplate(template)


@pytest.mark.parametrize(
    ("template", "uri", "values"),
    [
        ("", "", {}),
        ("", "a", None),
        ("a://b", "a://b", {}),
        ("a://b", "a://bc", None),
        ("a://b", "a://", None),
        ("notes://{name}", "notes://x", {"name": "x"}),
        ("notes://{name}", "notes://", None),
        ("notes://{name}", "notes:/", None),
        ("notes://{name}", "note://x", None),
        ("notes://{name}", "notes://x/y", None),
        ("notes://{name}", "notes://x?y", None),
        ("notes://{name}", "notes://x#y", None),
        ("notes://{name}", "notes://x%2Fy%20%C3%A9", {"name": "x/y é"}),
        ("notes://{name}", "notes://é", {"name": "é"}),
        ("é://{name}", "é://é", {"name": "é"}),
        ("notes://{name}", "notes://a+b,c&d:e@f", {"name": "a+b,c&d:e@f"}),
        ("notes://{name}", "notes://%", {"name": "%"}),
        ("notes://{name}", "notes://%FF", None),
        ("notes://{name}", "notes://\ud800", None),
        ("{a}", "x", {"a": "x"}),
        ("{a}", "", None),
        ("{a}/", "/", None),
        ("{a}-{b}", "x-y", {"a": "x", "b": "y"}),
        ("{a}-{b}", "x-y-z", {"a": "x-y", "b": "z"}),
        ("{a}-{b}", "-y", None),
        ("{a}-{b}", "y-", None),
        ("{a}-{b}", "-", None),
        ("{a}-{b}", "--", None),
        ("{a}-{b}", "---", {"a": "-", "b": "-"}),
        ("x{a}x", "x", None),
        ("x{a}x", "xx", None),
        ("x{a}x", "xxx", {"a": "x"}),
        ("x{a}xx{b}", "xxx", None),
        ("{a,b}", "1,2", {"a": "1", "b": "2"}),
        ("{a,b}", "1,2,3", None),
        ("{a,b}", "1", None),
        ("r://{a}/s/{b}.json", "r://1/s/2.json", {"a": "1", "b": "2"}),
        ("r://{a}/s/{b}.json", "r://1/2/s/2.json", None),
        ("r://{a}/s/{b}.json", "r://1/s/.json", None),
        ("f:///{+path}", "f:///a/b?c#d", {"path": "a/b?c#d"}),
        ("f:///{+path}", "f:///", None),
        ("f://{host}/{+path}/raw", "f://h/a/raw/raw", {"host": "h", "path": "a/raw"}),
        ("f://{host}/{+path}/raw", "f://h/raw", None),
        ("f://{host}/{+path}/raw", "g://h/a/raw", None),
        ("f://{host}/{+path}/{v}", "f://h/a/b/1", {"host": "h", "path": "a/b", "v": "1"}),
        ("{+a}", "x", {"a": "x"}),
        ("a{/b}", "a/1", {"b": "1"}),
        ("a{/b}", "a", None),
        ("a{/b,c}", "a/1/2", {"b": "1", "c": "2"}),
        ("a{/b*}", "a", {"b": []}),
        ("a{/b*}", "a/1/2%2F", {"b": ["1", "2/"]}),
        ("a{/b*}", "ab", None),
        ("a{/b*}", "a/1?2", None),
        ("{a}{/b*}", "x", {"a": "x", "b": []}),
        ("{a}{/b*}", "x/y/z", {"a": "x", "b": ["y", "z"]}),
        ("{a}{/b*}", "/y", None),
        ("{a}{/b*}/end", "x/y/end", {"a": "x", "b": ["y"]}),
        ("{a}{/b*}/end", "x/end", {"a": "x", "b": []}),
        ("{a}{/b*}/end", "x", None),
        ("{a}{.b*}", "x.y.z", {"a": "x", "b": ["y", "z"]}),
        ("{a}{.b*}", "x/y.z", None),
        ("{a,b*}", "1,2,3", {"a": "1", "b": ["2", "3"]}),
        ("{a*}", "1,2", {"a": ["1", "2"]}),
        ("{a}{.ext}", "x.tar.gz", {"a": "x.tar", "ext": "gz"}),
        ("x{.ext}", "x.tar.gz", {"ext": "tar.gz"}),
        ("q://a{?x,y}", "q://a", {}),
        ("q://a{?x,y}", "q://a?", {}),
        ("q://a{?x,y}", "q://a?y=2&z=3&x=1%26", {"x": "1&", "y": "2"}),
        ("q://a{?x,y}", "q://a?x=1&x=2", {"x": "1"}),
        ("q://a{?x,y}", "q://a?x=&y", {"x": "", "y": ""}),
        ("q://a{?x,y}", "q://a?x=a+b=c", {"x": "a+b=c"}),
        ("q://a{?x,y}", "q://a?x=1#f", None),
        ("q://a{?x,y}", "q://ab?x=1", None),
        ("q://a{?x}{&y}", "q://a?x=1&y=2", {"x": "1", "y": "2"}),
        ("q://a{?x*}", "q://a?x=1&x=2", {"x": ["1", "2"]}),
        ("q://a{?x*}", "q://a", {}),
        ("q://{+p}{?x}", "q://a/b?x=1", {"p": "a/b", "x": "1"}),
        ("q://a?k=v{&x}", "q://a?k=v&x=1", {"x": "1"}),
        ("q://a?k=v{&x}", "q://a?k=v", {}),
        ("q://a?k=v{&x}", "q://a?k=w&x=1", None),
        ("q://a?k={v}&l={w}{&x}", "q://a?k=1&l=2&x=3", {"v": "1", "w": "2", "x": "3"}),
        ("q://a?k={v}&l={w}{&x}", "q://a?k=1&x=3", None),
        ("q://a?k={v}", "q://a?k=1&x=3", None),
        ("q://a{#f}", "q://a#x/y%20?", {"f": "x/y ?"}),
        ("q://a{#f}", "q://a", {}),
        ("q://a{?x}{#f}", "q://a?x=1#2", {"x": "1", "f": "2"}),
    ],
)
def test_match(template: str, uri: str, values: dict[str, Any] | None) -> None:
    assert URITemplate(template).match(uri) == values


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def filled(template: str, values: dict[str, Any]) -> str:
    """The template with its values put in, for the operators "", "+", "/" and "." (RFC 6570 3.2)."""

    def expansion(found: re.Match[str]) -> str:
        operator = found[1]
        separator = operator if operator in ("/", ".") else ","
        items: list[str] = []
        for name in found[2].split(","):
            value = values[name.rstrip("*")]
            items += value if isinstance(value, list) else [value]
        safe = "-._~:/?#[]@!$&'()*+,;=" if operator == "+" else "-._~"
        text = separator.join(quote(item, safe=safe) for item in items)
        return operator + text if items and operator in ("/", ".") else text

    return re.sub(r"\{([+/.]?)([^}]+)\}", expansion, template)


@given(a=texts, b=texts, items=st.lists(texts, max_size=3), q=st.none() | texts, qs=st.lists(texts, max_size=3))
def test_a_match_reads_the_values_that_a_client_put_in(
    a: str, b: str, items: list[str], q: str | None, qs: list[str]
) -> None:
    values: dict[str, Any] = {"a": a, "b": b, "items": items}
    uri = filled("t://{a}/{b}/l{/items*}/end", values)
    pairs = ([("q", q)] if q is not None else []) + [("qs", one) for one in qs]
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
    expected = values | ({} if q is None else {"q": q}) | ({"qs": qs} if qs else {})
    assert URITemplate("t://{a}/{b}/l{/items*}/end{?q,qs*}").match(f"{uri}?{query}") == expected


TEMPLATES = ["{a}-{b}", "x{a}xx{b}x", "{a}/{+b}", "a{+b}aa{c}", "{a}{/b*}/{c}", "{a}{.b}", "{a,b}a{c}", "{+a}x{b}x{c}"]


@given(st.sampled_from(TEMPLATES), st.text("ax-/.,%2F", max_size=12))
def test_the_values_of_a_match_make_the_uri_that_they_came_from(template: str, uri: str) -> None:
    made = URITemplate(template)
    found = made.match(uri)
    if found is None:
        return
    assert made.match(filled(template, found)) is not None
    if "%" not in uri and "," not in uri:  # "," may stand unencoded in a URI, but expansion encodes it
        assert filled(template, found) == uri


@given(st.sampled_from(["{a}-{b}", "x{a}xx{b}x", "{a}x-{b}-x{c}", "x{a}-x{b}"]), st.text("x-/", max_size=10))
def test_a_match_is_found_wherever_there_is_one(template: str, uri: str) -> None:
    # The oracle: every way of cutting the URI.
    names = URITemplate(template).names
    literals = template.translate(str.maketrans("{}", "\0\0")).split("\0")[::2]

    def cuts(rest: str, number: int) -> bool:
        if not rest.startswith(literals[number]):
            return False
        rest = rest[len(literals[number]) :]
        if number == len(names):
            return rest == ""
        return any("/" not in rest[:n] and cuts(rest[n:], number + 1) for n in range(1, len(rest) + 1))

    assert (URITemplate(template).match(uri) is not None) == cuts(uri, 0)


def seconds(template: URITemplate, uri: str) -> float:
    best = 1e9
    for _ in range(3):
        with cost() as matching:
            template.match(uri)
        best = min(best, matching.seconds)
    return best


@pytest.mark.long
@pytest.mark.parametrize(
    ("template", "unit"),
    [
        ("t://{a}-{b}-{c}-{d}-{e}", "-"),
        ("t://{a}-{b}-{c}-{d}-{e}/", "-"),
        ("t://{a}-{b}-{+c}-{d}-{e}/", "-"),
        ("t://{a}/{b}{/c*}/{d}/{e}x", "/a"),
        ("t://{a,b*}", ","),
        ("t://{+a}", "%41"),
        ("t://{a}", "%FF"),
        ("t://{a}", "é"),
        ("t://a{?b*,c}", "&b=%41"),
        ("t://a?{b}{&c}", "&"),
        ("t://{a}{.b*}", "."),
    ],
)
def test_a_hostile_uri_takes_time_in_proportion_to_its_length(template: str, unit: str) -> None:
    # CVE-2026-0621: a nested quantifier over a client's URI.  Eight times the length: 64 times the time if quadratic.
    made = URITemplate(template)
    small, large = (f"t://{unit * (size // len(unit))}" for size in (100_000, 800_000))
    assert seconds(made, small) < 0.5
    assert seconds(made, large) < 24 * max(seconds(made, small), 0.002)


@pytest.mark.parametrize("value", ["..", "a/../b", "/etc", "C:x", "c:\\x", "\\x", "a\\..\\b", "a\0", "../a", "a/.."])
def test_values_that_leave_a_directory_are_recognized(value: str) -> None:
    assert climbs(value)


@pytest.mark.parametrize("value", ["", "a", "a/b", "..a", "a..", ".", "a.b/c", "...", "ab:c"])
def test_values_that_stay_are_not_suspected(value: str) -> None:
    assert not climbs(value)
