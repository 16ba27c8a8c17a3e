# SPDX-License-Identifier: MIT
"""URI templates (RFC 6570): values to a URI at all four levels, and a URI back to values.

RFC 6570 defines expansion only (1.4), so what `match` does is decided here.  It refuses, when the template is made,
every template whose match would be a guess: adjoining variables, two variables that may contain "/", "{x:3}",
"{;x}", and a query that is not at the end.

Rule: no regular expression ever sees a client's URI.  A match scans from both ends with `find` and `rfind`, never
goes back, and so takes time proportional to the length of the URI times the number of variables.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

MAX_VALUES = 10_000  # that one URI may give a function, where they are looked through
_UNRESERVED = "-._~"  # `quote` adds letters and digits
_RESERVED = ":/?#[]@!$&'()*+,;="
_ASCII = "".join(map(chr, range(128)))
# These two see the author's template only, never what a client sent.
_VARSPEC = re.compile(r"(?P<name>(?:\w|%[0-9A-Fa-f]{2})(?:\.?(?:\w|%[0-9A-Fa-f]{2}))*)(?P<mod>\*|:[1-9]\d{0,3})?", re.A)
_BAD_LITERAL = re.compile(r"[\x00-\x20\x7f{}<>\"\\^`|]|%(?![0-9A-Fa-f]{2})")


class _Operator(NamedTuple):
    """One row of RFC 6570 appendix A."""

    first: str
    separator: str
    named: bool
    if_empty: str
    allow: str


_OPERATORS = {
    "": _Operator("", ",", False, "", _UNRESERVED),
    "+": _Operator("", ",", False, "", _UNRESERVED + _RESERVED),
    "#": _Operator("#", ",", False, "", _UNRESERVED + _RESERVED),
    ".": _Operator(".", ".", False, "", _UNRESERVED),
    "/": _Operator("/", "/", False, "", _UNRESERVED),
    ";": _Operator(";", ";", True, "", _UNRESERVED),
    "?": _Operator("?", "&", True, "=", _UNRESERVED),
    "&": _Operator("&", "&", True, "=", _UNRESERVED),
}


class _Variable(NamedTuple):
    name: str
    explode: bool
    prefix: int | None


class _Expression(NamedTuple):
    operator: str
    variables: tuple[_Variable, ...]


class _Hole(NamedTuple):
    """A variable as the matcher sees it.  `span`: it may contain "/", or nothing, or several values."""

    name: str
    stops: str
    span: bool = False
    separator: str = ""  # exploded: the value is a list, split here
    lead: str = ""  # exploded: what comes before the first item


class _Tail(NamedTuple):
    """{?...}, {&...} and {#x} at the end of a template."""

    query: dict[str, bool]  # name to exploded
    ampersand: bool  # the first of them is {&...}: the body has a query of its own
    fragment: str | None


class URITemplate:
    """A template such as ``notes://{folder}/{+path}{?limit}``.

    `match` finds the values in a URI, `expand` puts values in.

    Raises:
        ValueError: the template is not one of RFC 6570, or, unless `matching` is False, it cannot be matched.
    """

    __slots__ = ("_body", "_parts", "_tail", "names", "template")

    def __init__(self, template: str, *, matching: bool = True) -> None:
        self.template = template
        self._parts = tuple(_parse(template))
        variables = [v for part in self._parts if isinstance(part, _Expression) for v in part.variables]
        self.names: tuple[str, ...] = tuple(dict.fromkeys(v.name for v in variables))
        self._body: list[str | _Hole] | None = None
        self._tail: _Tail | None = None
        if matching:
            if len(self.names) != len(variables):
                raise ValueError(f"{template!r}: a variable appears twice")
            body, self._tail = _split_tail(template, self._parts)
            self._body = _compile(template, body)

    def __repr__(self) -> str:
        return f"URITemplate({self.template!r})"

    def expand(self, values: Mapping[str, Any]) -> str:
        """The URI for these values: str, number, bool, a sequence or a mapping of those.

        What is absent, None or an empty collection is left out, as RFC 6570 3.2.1 has it.
        """
        return "".join(
            part if isinstance(part, str) else _expand(part.operator, part.variables, values) for part in self._parts
        )

    def match(self, uri: str) -> dict[str, str | list[str]] | None:
        """The values, percent-decoded, by name; None where the URI does not match.

        An exploded variable gives a list.  A value in the path is never empty; a variable of the query that the
        URI does not have is left out, and parameters that the template does not name are ignored.
        A decoded value may contain "/" or ".." (sent as %2F): see `climbs` before using one as a path, and what is made
        of one (a list that it spells in JSON) has to be looked at again, by `climbs_anywhere`.
        """
        if self._body is None or self._tail is None:
            raise ValueError(f"{self.template!r} was made for expansion only")
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
    """Whether this value, taken as a file path, could leave the directory it is joined to.

    True for "..", absolute paths of either kind of system, and NUL.  Symbolic links are not looked at.
    """
    path = value.replace("\\", "/")
    if path.startswith("/") or path[1:2] == ":" or "\0" in path:
        return True
    return ".." in path and any(map(_is_above, path.split("/")))


def _is_above(part: str) -> bool:
    # Windows drops blanks, and dots before them, at the end of a name: ".. " is ".." there.
    return part == ".." or (part.startswith("..") and " " in part and not part.strip(". "))


def climbs_anywhere(values: Any) -> bool:
    """Whether a text, bytes or path in these values `climbs`, however deep it is: in lists, mappings, objects.

    True as well for more than MAX_VALUES of them, which no URI of a file has, and which nobody should wait for.
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
    """What an object is made of, at most so many of each kind."""
    if isinstance(value, (enum.Enum, type)):
        return []  # the author's own
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


# --- expansion (RFC 6570, 3.2 and appendix A) ----------------------------------------------------------------


def _expand(operator: str, variables: tuple[_Variable, ...], values: Mapping[str, Any]) -> str:
    rule = _OPERATORS[operator]
    pieces = []
    for variable in variables:
        value = values.get(variable.name)
        if value is None:
            continue
        if isinstance(value, Mapping):
            pieces += _expand_mapping(rule, variable, value)
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            pieces += _expand_list(rule, variable, value)
        else:
            text = _string(value)[: variable.prefix]
            pieces.append(_named(rule, variable.name, _encode(text, rule)))
    return rule.first + rule.separator.join(pieces) if pieces else ""


def _expand_mapping(rule: _Operator, variable: _Variable, value: Mapping[Any, Any]) -> list[str]:
    _no_prefix(variable)
    pairs = [(_encode(_string(k), rule), _encode(_string(v), rule)) for k, v in value.items() if v is not None]
    if variable.explode:
        return [_named(rule, k, v) if rule.named else f"{k}={v}" for k, v in pairs]
    return [_named(rule, variable.name, ",".join(f"{k},{v}" for k, v in pairs))] if pairs else []


def _expand_list(rule: _Operator, variable: _Variable, value: Sequence[Any]) -> list[str]:
    _no_prefix(variable)
    items = [_encode(_string(item), rule) for item in value if item is not None]
    if variable.explode:
        return [_named(rule, variable.name, item) for item in items]
    return [_named(rule, variable.name, ",".join(items))] if items else []


def _no_prefix(variable: _Variable) -> None:
    if variable.prefix is not None:  # RFC 6570, 2.4.1: "not applicable to variables that have composite values"
        raise ValueError(f"{variable.name}: a prefix of a list or mapping is undefined")


def _named(rule: _Operator, name: str, value: str) -> str:
    if not rule.named:
        return value
    return f"{name}={value}" if value else name + rule.if_empty


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _encode(text: str, rule: _Operator) -> str:
    if rule.allow == _UNRESERVED:
        return quote(text, safe=_UNRESERVED)
    # 3.2.3: reserved expansion lets percent-encoded triplets through as they are
    pieces = text.split("%")
    encoded = [quote(pieces[0], safe=rule.allow)]
    for piece in pieces[1:]:
        triplet = len(piece) >= 2 and all(c in "0123456789abcdefABCDEF" for c in piece[:2])
        encoded.append(("%" if triplet else "%25") + quote(piece, safe=rule.allow))
    return "".join(encoded)


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
                raise ValueError(f"{template!r}: a prefix ({{{variable.name}:n}}) can be expanded but not matched")
            query[variable.name] = variable.explode
        body.pop()
    has_query = any(isinstance(part, str) and "?" in part for part in body)
    if query and (first == "&") != has_query:
        raise ValueError(f"{template!r}: {{?...}} begins a query and {{&...}} continues one")
    return body, _Tail(query, first == "&", fragment)


def _compile(template: str, body: list[str | _Expression]) -> list[str | _Hole]:
    """Literals and holes by turns; an operator's own character becomes a literal."""
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
        # An exploded list brings its own first character, and so a border on its left.
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
    stops = "/?#" + ("&" if in_query else "") + ("," if len(variables) > 1 and not operator else "")
    for number, variable in enumerate(variables):
        if variable.prefix is not None:
            raise ValueError(f"{template!r}: a prefix ({{{variable.name}:n}}) can be expanded but not matched")
        rule = _OPERATORS[operator]
        lead = rule.separator if number else rule.first
        if operator == "+":
            if variable.explode or len(variables) > 1:
                raise ValueError(f"{template!r}: {{+...}} can be matched as one plain variable only")
            out.append(_Hole(variable.name, "", span=True))
        elif variable.explode:
            _add_list(out, variable.name, lead, rule.separator, stops)
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
    """The URI as (what the body has to match, query, fragment)."""
    query = fragment = ""
    if tail.fragment is not None:
        uri, _, fragment = uri.partition("#")
    if tail.query and tail.ampersand:
        # The body owns as many parameters as it spells out; the rest is the tail's.
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
    """Match all of `uri`; the parts after a spanning hole (or all of them) from the right, the rest from the left."""
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
        # The last place that leaves the value a character; greedy for the holes on the left, as str.rpartition is
        position = uri.rfind(before, low, max(low, high - 1)) if index or not closed else low
        if position < 0 or not _take(part, uri[position + len(before) : high], found):
            return None
        high = position
        index -= 2
    return high


def _from_left(
    uri: str, high: int, parts: list[str | _Hole], span: str | _Hole, found: dict[str, str | list[str]]
) -> int | None:
    """Where the match of `parts`, which begins at 0, ends; each hole as short as can be."""
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
        elif name not in found:  # a repeated parameter: the first one, as there is one value to give
            found[name] = _decode(raw)


def _decode(raw: str) -> str:
    # Not "+" to space: RFC 6570 writes a space as %20.
    return unquote(raw, errors="strict") if "%" in raw else raw
