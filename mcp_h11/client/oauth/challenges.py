# SPDX-License-Identifier: MIT
"""The header `WWW-Authenticate` of a refused request, as values: challenges, and the one for a token read.

RFC 9110, 11.6.1 (the grammar), RFC 6750, 3 (`scope`, `error`), RFC 9728, 5.1 (`resource_metadata`).

A stranger wrote it: text that is no challenge is passed over, and nothing here raises.

Rule: only the challenge for a token counts.  A parameter that stands in the challenge of another scheme is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_CHALLENGE = 16 * 1024  # characters of all header lines together; the rest is not read
MAX_CHALLENGES = 20
MAX_CHALLENGE_PARAMS = 50  # of one challenge
MAX_SCOPES = 100  # of one list; later ones are dropped
MAX_SCOPE = 256  # characters

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A name with its value.  In a quoted text a backslash takes the next character as it is (RFC 9110, 5.6.4).
_PARAM = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))[ \t]*(?=,|\Z)', re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+(?:[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|\Z))?|(?=,|\Z))")
_BETWEEN = re.compile(r"[ \t,]*")
_REST = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])*', re.DOTALL)
# RFC 6749, 3.3: visible ASCII but the quote and the backslash.
_SCOPE_TOKEN = re.compile(r"[!#-\[\]-~]+")


@dataclass(frozen=True)
class Challenge:
    """One challenge: `scheme` in lower case, `params` with their names in lower case."""

    scheme: str
    params: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenWanted:
    """The challenge for a token, read.

    Attributes:
        resource_metadata: the address of its metadata, if it names one.
        scopes: those that the request needs; None where the server names none.
        error: "invalid_token", "insufficient_scope" or another code; None without one.
    """

    resource_metadata: str | None = None
    scopes: tuple[str, ...] | None = None
    error: str | None = None


def parse_challenges(lines: Iterable[str]) -> list[Challenge]:
    """The challenges of all `WWW-Authenticate` lines of an answer, in order.

    The first value of a parameter counts, since a parameter must not be there twice (RFC 9110, 11.2).
    """
    text = ", ".join(lines)[:MAX_CHALLENGE]
    found: list[Challenge] = []
    place = 0
    while True:
        gap = _BETWEEN.match(text, place)
        assert gap is not None
        place = gap.end()
        if place >= len(text):
            return found
        # A parameter belongs to the challenge before it.  Without one it is a stray word.
        param = _PARAM.match(text, place)
        if param is not None:
            if found and len(found[-1].params) < MAX_CHALLENGE_PARAMS:
                value = param[3] if param[2] is None else re.sub(r"\\(.)", r"\1", param[2], flags=re.DOTALL)
                found[-1].params.setdefault(param[1].lower(), value)
            place = param.end()
            continue
        scheme = _SCHEME.match(text, place)
        if scheme is None:
            rest = _REST.match(text, place)
            assert rest is not None
            place = max(rest.end(), place + 1)
            continue
        if len(found) >= MAX_CHALLENGES:
            return found
        found.append(Challenge(scheme[1].lower()))
        place = scheme.end()


def wanted_in(lines: Iterable[str]) -> TokenWanted:
    """The first challenge for a bearer token; all None where there is no such challenge."""
    challenges = parse_challenges(lines)
    # A server with DPoP (RFC 9449, 7.1) has the same parameters there.
    for scheme in ("bearer", "dpop"):
        for challenge in challenges:
            if challenge.scheme == scheme:
                params = challenge.params
                scopes = None if "scope" not in params else split_scope(params["scope"])
                return TokenWanted(params.get("resource_metadata") or None, scopes or None, params.get("error"))
    return TokenWanted()


def split_scope(scope: str) -> tuple[str, ...]:
    """The scopes of one text, in order and each once.  A word that is no scope is left out (RFC 6749, 3.3)."""
    return sound_scopes(scope.split())


def sound_scopes(scopes: Iterable[object]) -> tuple[str, ...]:
    """The scopes of a stranger's list: texts that a request can carry, in order, each once, `MAX_SCOPES` at most."""
    good = (one for one in scopes if isinstance(one, str) and len(one) <= MAX_SCOPE and _SCOPE_TOKEN.fullmatch(one))
    return tuple(dict.fromkeys(good))[:MAX_SCOPES]
