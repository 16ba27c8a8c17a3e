# SPDX-License-Identifier: MIT
"""URI templates (RFC 6570) matched with URIs: the values of the template's variables are read from a URI.

RFC 6570 defines expansion only (1.4), so this module has its own rules of matching.  It refuses a template at its
creation if several matches of one URI would be possible: adjoining variables, two variables that may contain "/",
"{x:3}", "{;x}", and a query that is not at the end.  It does not expand templates, because a server gets URIs from its
clients and writes none.

Rule: no regular expression is used on a client's URI.  A match scans from both ends with `find` and `rfind` and never
goes back.  So its time is proportional to the length of the URI times the number of variables.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

MAX_VALUES = 10_000  # values that `climbs_anywhere` examines for one URI
_UNRESERVED = "-._~"  # `quote` adds letters and digits
_RESERVED = ":/?#[]@!$&'()*+,;="
_ASCII = "".join(map(chr, range(128)))
# These two are used on the author's template only, never on a client's URI.
_VARSPEC = re.compile(r"(?P<name>(?:\w|%[0-9A-Fa-f]{2})(?:\.?(?:\w|%[0-9A-Fa-f]{2}))*)(?P<mod>\*|:[1-9]\d{0,3})?", re.A)
_BAD_LITERAL = re.compile(r"[\x00-\x20\x7f{}<>\"\\^`|]|%(?![0-9A-Fa-f]{2})")


# RFC 6570 appendix A: the characters before the first value and between two values of an expression.  The operators
# that name their values (";", "?" and "&") and the fragment ("#") are matched in other ways, by `_split_tail`.
_SEPARATORS = {
    "": ("", ","),
    "+": ("", ","),
    ".": (".", "."),
    "/": ("/", "/"),
}
_OPERATORS = frozenset("+#./;?&")


class _Variable(NamedTuple):
    name: str
    explode: bool
    prefix: int | None


class _Expression(NamedTuple):
    operator: str
    variables: tuple[_Variable, ...]


class _Hole(NamedTuple):
    """A variable, prepared for matching.  `span`: its text may contain "/", be empty, or hold several values."""

    name: str
    stops: str
    span: bool = False
    separator: str = ""  # exploded: the value is a list, split here
    lead: str = ""  # exploded: the character before the first item


class _Tail(NamedTuple):
    """{?...}, {&...} and {#x} at the end of a template."""

    query: dict[str, bool]  # name to exploded
    ampersand: bool  # the first expression is {&...}: the body has a query of its own
    fragment: str | None


class URITemplate:
    """A template such as ``notes://{folder}/{+path}{?limit}``.

    `match` finds the values in a URI.

    Raises:
        ValueError: the template is not one of RFC 6570, or a match with it would be a guess.
    """

    __slots__ = ("_body", "_tail", "names", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        parts = tuple(_parse(template))
        variables = [v for part in parts if isinstance(part, _Expression) for v in part.variables]
        self.names: tuple[str, ...] = tuple(dict.fromkeys(v.name for v in variables))
        if len(self.names) != len(variables):
            raise ValueError(f"{template!r}: a variable appears twice")
        body, self._tail = _split_tail(template, parts)
        self._body = _compile(template, body)

    def __repr__(self) -> str:
        return f"URITemplate({self.template!r})"

    def match(self, uri: str) -> dict[str, str | list[str]] | None:
        """The values, percent-decoded, by name; None where the URI does not match.

        An exploded variable gives a list.  A value in the path is never empty.  A variable of the query is left out if
        the URI does not have it, and parameters that the template does not name are ignored.

        A decoded value may contain "/" (sent as %2F) or "..".  Check a value with `climbs` before you use it as a path.
        If you parse a value, for instance as a JSON list, check the parsed values with `climbs_anywhere`.
        """
        found: dict[str, str | list[str]] = {}
        try:
            if not uri.isascii():
                uri = quote(uri, safe=_ASCII)
            body, query, fragment = _cut(uri, self._body, self._tail)
            if "#" in query or not _scan(body, self._body, found):
                return None
            if self._tail.query:
                _read_query(query, self._tail.query, found)
            if self._tail.fragment is not None and fragment:
                found[self._tail.fragment] = _decode(fragment)
        except UnicodeError:  # lone surrogates, or percent-encoded bytes that are not UTF-8
            return None
        return found


def climbs(value: str) -> bool:
    """Whether this value, used as a file path, could leave the directory to which it is joined.

    True for "..", for absolute paths of POSIX and of Windows, and for NUL.  Symbolic links are not followed.
    """
    path = value.replace("\\", "/")
    if path.startswith("/") or path[1:2] == ":" or "\0" in path:
        return True
    return ".." in path and any(map(_is_above, path.split("/")))


def _is_above(part: str) -> bool:
    # Windows drops blanks, and dots before them, at the end of a name: ".. " is ".." there.
    return part == ".." or (part.startswith("..") and " " in part and not part.strip(". "))


def climbs_anywhere(values: Any) -> bool:
    """Whether a text, bytes or path in these values `climbs`, at any depth of lists, mappings and objects.

    Also True for more than MAX_VALUES values: no URI of a file has that many, and the search must end in time.
    """
    left, count = [values], 0
    while left:
        value = left.pop()
        count += 1
        if count > MAX_VALUES:
            return True
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = bytes(value).decode("latin-1")
        if isinstance(value, str):
            if climbs(value):
                return True
        else:
            left += _inside(value, MAX_VALUES + 1 - count)
    return False


def _inside(value: Any, limit: int) -> list[Any]:
    """The parts of an object: keys and values, items, or attributes; at most `limit` of each kind."""
    if isinstance(value, (enum.Enum, type)):
        return []  # the author wrote these, and no URI changes them
    if isinstance(value, Mapping):
        return [*islice(value, limit), *islice(value.values(), limit)]
    if isinstance(value, Collection):
        return list(islice(value, limit))
    slots = [name for cls in type(value).__mro__ for name in _names(cls.__dict__.get("__slots__", ()))]
    inside = [getattr(value, name, None) for name in slots if name != "__dict__"]
    return [*inside, *islice(getattr(value, "__dict__", {}).values(), limit)]


def _names(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


# --- parsing -------------------------------------------------------------------------------------------------


def _parse(template: str) -> Iterator[str | _Expression]:
    position = 0
    while position < len(template):
        start = template.find("{", position)
        literal = template[position:] if start < 0 else template[position:start]
        if literal:
            if bad := _BAD_LITERAL.search(literal):
                raise ValueError(f"{template!r}: {bad.group()!r} cannot stand in a URI template")
            yield quote(literal, safe=_UNRESERVED + _RESERVED + "%")
        if start < 0:
            return
        end = template.find("}", start)
        if end < 0:
            raise ValueError(f"{template!r}: '{{' without '}}'")
        yield _expression(template, template[start + 1 : end])
        position = end + 1


def _expression(template: str, text: str) -> _Expression:
    operator = text[:1] if text[:1] in _OPERATORS else ""
    variables = []
    for spec in text[len(operator) :].split(","):
        found = _VARSPEC.fullmatch(spec)
        if not found:
            raise ValueError(f"{template!r}: {spec!r} is not a variable")
        modifier = found["mod"] or ""
        prefix = int(modifier[1:]) if modifier.startswith(":") else None
        variables.append(_Variable(found["name"], modifier == "*", prefix))
    return _Expression(operator, tuple(variables))


# --- the template, prepared for matching ---------------------------------------------------------------------


def _split_tail(template: str, parts: tuple[str | _Expression, ...]) -> tuple[list[str | _Expression], _Tail]:
    body = list(parts)
    fragment = None
    if body and isinstance(last := body[-1], _Expression) and last.operator == "#":
        if len(last.variables) != 1 or last.variables[0] != _Variable(last.variables[0].name, False, None):
            raise ValueError(f"{template!r}: a fragment can be matched as one plain variable only")
        fragment = last.variables[0].name
        body.pop()
    query: dict[str, bool] = {}
    first = ""
    while body and isinstance(last := body[-1], _Expression) and last.operator in {"?", "&"}:
        first = last.operator
        for variable in reversed(last.variables):
            if variable.prefix is not None:
                raise ValueError(f"{template!r}: a prefix ({{{variable.name}:n}}) cannot be matched")
            query[variable.name] = variable.explode
        body.pop()
    has_query = any(isinstance(part, str) and "?" in part for part in body)
    if query and (first == "&") != has_query:
        raise ValueError(f"{template!r}: {{?...}} begins a query and {{&...}} continues one")
    return body, _Tail(query, first == "&", fragment)


def _compile(template: str, body: list[str | _Expression]) -> list[str | _Hole]:
    """The template as literals and holes; the first character of an operator becomes a literal."""
    out: list[str | _Hole] = []
    in_query = False
    for part in body:
        if isinstance(part, str):
            in_query = in_query or "?" in part
            _add_literal(out, part)
        else:
            _add_expression(template, out, part, in_query)
    if sum(isinstance(part, _Hole) and part.span for part in out) > 1:
        raise ValueError(f"{template!r}: more than one variable may contain '/', so a match would be a guess")
    for left, right in zip(out, out[1:], strict=False):
        # An exploded list begins with its own separator, which ends the variable on its left.
        if isinstance(left, _Hole) and isinstance(right, _Hole) and not right.lead:
            raise ValueError(f"{template!r}: nothing separates {{{left.name}}} from {{{right.name}}}")
    return out


def _add_literal(out: list[str | _Hole], text: str) -> None:
    if text and out and isinstance(out[-1], str):
        out[-1] += text
    elif text:
        out.append(text)


def _add_expression(template: str, out: list[str | _Hole], expression: _Expression, in_query: bool) -> None:
    operator, variables = expression
    if operator in {";", "?", "&", "#"}:
        raise ValueError(f"{template!r}: {{{operator}...}} cannot be matched at this place")
    first, separator = _SEPARATORS[operator]
    stops = "/?#" + ("&" if in_query else "") + ("," if len(variables) > 1 and not operator else "")
    for number, variable in enumerate(variables):
        if variable.prefix is not None:
            raise ValueError(f"{template!r}: a prefix ({{{variable.name}:n}}) cannot be matched")
        lead = separator if number else first
        if operator == "+":
            if variable.explode or len(variables) > 1:
                raise ValueError(f"{template!r}: {{+...}} can be matched as one plain variable only")
            out.append(_Hole(variable.name, "", span=True))
        elif variable.explode:
            _add_list(out, variable.name, lead, separator, stops)
        else:
            _add_literal(out, lead)
            out.append(_Hole(variable.name, stops))


def _add_list(out: list[str | _Hole], name: str, lead: str, separator: str, stops: str) -> None:
    if lead == separator:  # {/x*}, {.x*}: no item, no character at all
        out.append(_Hole(name, stops.replace(separator, ""), True, separator, lead))
    else:
        _add_literal(out, lead)
        out.append(_Hole(name, stops.replace(separator, ""), True, separator))


# --- matching ------------------------------------------------------------------------------------------------


def _cut(uri: str, body: list[str | _Hole], tail: _Tail) -> tuple[str, str, str]:
    """The URI as (the part for the body of the template, query, fragment)."""
    query = fragment = ""
    if tail.fragment is not None:
        uri, _, fragment = uri.partition("#")
    if tail.query and tail.ampersand:
        # The first parameters belong to the body, as many as it has in its literals; the others belong to the tail.
        own = 1 + sum(part.count("&") for part in body if isinstance(part, str))
        position = uri.find("?")
        while own and position >= 0:
            position = uri.find("&", position + 1)
            own -= 1
        if position >= 0:
            uri, query = uri[:position], uri[position + 1 :]
    elif tail.query:
        uri, _, query = uri.partition("?")
    return uri, query, fragment


def _scan(uri: str, parts: list[str | _Hole], found: dict[str, str | list[str]]) -> bool:
    """Match all of `uri`: the parts before a spanning hole from the left, all other parts from the right."""
    span = next((i for i, part in enumerate(parts) if isinstance(part, _Hole) and part.span), None)
    low, high = 0, len(uri)
    first = 0
    if span is None and parts and isinstance(parts[0], str):
        if not uri.startswith(parts[0]):
            return False
        low, first = len(parts[0]), 1
    right = _from_right(uri, low, high, parts[first if span is None else span + 1 :], found, closed=span is None)
    if right is None or span is None:
        return right == low
    hole = parts[span]
    left = _from_left(uri, right, parts[:span], hole, found)
    return left is not None and isinstance(hole, _Hole) and _take(hole, uri[left:right], found)


def _from_right(
    uri: str, low: int, high: int, parts: list[str | _Hole], found: dict[str, str | list[str]], *, closed: bool
) -> int | None:
    """Where the match of `parts`, which ends at `high`, begins.  `closed`: it has to begin at `low`."""
    index = len(parts) - 1
    while index >= 0:
        part = parts[index]
        if isinstance(part, str):
            if not uri.endswith(part, low, high):
                return None
            high -= len(part)
            index -= 1
            continue
        before = parts[index - 1] if index else ""
        assert isinstance(before, str)  # holes never adjoin here: a spanning one is not among these parts
        # The last place that leaves one character for the value, so that holes on the left get as much as possible.
        position = uri.rfind(before, low, max(low, high - 1)) if index or not closed else low
        if position < 0 or not _take(part, uri[position + len(before) : high], found):
            return None
        high = position
        index -= 2
    return high


def _from_left(
    uri: str, high: int, parts: list[str | _Hole], span: str | _Hole, found: dict[str, str | list[str]]
) -> int | None:
    """Where the match of `parts`, which begins at 0, ends; each hole gets as little as possible."""
    position = 0
    for index, part in enumerate(parts):
        if isinstance(part, str):
            if not uri.startswith(part, position, high):
                return None
            position += len(part)
            continue
        after = parts[index + 1] if index + 1 < len(parts) else span
        border = after if isinstance(after, str) else after.lead
        end = uri.find(border, position + 1, high)
        if end < 0:
            end = high if isinstance(after, _Hole) else position  # an exploded list may be empty
        if not _take(part, uri[position:end], found):
            return None
        position = end
    return position


def _take(hole: _Hole, raw: str, found: dict[str, str | list[str]]) -> bool:
    if any(stop in raw for stop in hole.stops):
        return False
    if not hole.separator:
        found[hole.name] = _decode(raw)
        return bool(raw)
    if not raw.startswith(hole.lead):
        if raw:
            return False
    items = raw[len(hole.lead) :].split(hole.separator) if raw else []
    found[hole.name] = [_decode(item) for item in items]
    return True


def _read_query(query: str, names: dict[str, bool], found: dict[str, str | list[str]]) -> None:
    for pair in query.split("&"):
        name, _, raw = pair.partition("=")
        explode = names.get(name)
        if explode is None:
            continue
        if explode:
            values = found.setdefault(name, [])
            assert isinstance(values, list)
            values.append(_decode(raw))
        elif name not in found:  # of a repeated parameter the first value counts, because the variable has one value
            found[name] = _decode(raw)


def _decode(raw: str) -> str:
    # Not "+" to space: RFC 6570 writes a space as %20.
    return unquote(raw, errors="strict") if "%" in raw else raw
