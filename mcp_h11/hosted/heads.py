# SPDX-License-Identifier: MIT
"""The head of a request as an ASGI server describes it, as a `Head`.

Clients repeat their heads, so the values are kept: the endpoint keeps its verdict on a head with the head.

ASGI specification, HTTP & WebSocket ASGI Message Format, HTTP Connection Scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ..http.addresses import checked_prefix
from ..http.messages import Head
from ..protocol.errors import Refusal

MAX_HEADS = 512  # heads that are kept
MAX_KEPT_HEAD = 4 * 1024  # bytes of the fields of a head that is kept
_PATH = "/!$&'()*+,;=:@~"  # characters of a path that need no percent-encoding (RFC 3986 section 3.3)
# Of a scope: the name, the types, and whether it has to be there.
_MEMBERS: tuple[tuple[str, type | tuple[type, ...], bool], ...] = (
    ("method", str, True),
    ("path", str, True),
    ("headers", Iterable, True),
    ("root_path", str, False),
    ("query_string", bytes, False),
    ("scheme", str, False),
    ("http_version", str, False),
    ("client", (tuple, list), False),
)
_ONCE = (b"host", b"content-length", b"content-type")


class HostedHead(Head):
    """A head whose prefix and scheme the other server knows."""

    __slots__ = ("prefix", "scheme")

    def __init__(self, scope: Mapping[str, Any], fields: tuple[tuple[bytes, bytes], ...], alias: str) -> None:
        root, path = (scope.get("root_path") or "").rstrip("/"), scope["path"]
        if root and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :]  # since 2023 the path of a mounted application begins with the prefix
        path = _quoted(path or "/", _PATH, "the path has characters that cannot be encoded")
        super().__init__(scope["method"], path, path, str(scope.get("http_version", "1.1")), fields)
        self.path = "/" if path.rstrip("/") == alias else path
        self.query = (scope.get("query_string") or b"").decode("latin-1")
        scheme = scope.get("scheme", "http")
        self.scheme = scheme if scheme in ("http", "https") else ""  # it stands in addresses that are given out
        self.prefix = _prefix(root)
        for name in _ONCE:
            if sum(found == name for found, _ in fields) > 1:
                # Some servers let a second one pass, and a gateway may have acted on the other one of the two.
                raise Refusal(400, f"Bad Request: {name.decode()} comes more than once")
        length = self.get("content-length")
        if length is not None and length.isascii() and length.isdigit():
            self.content_length = self.size = int(length[:20])
        self.expect_continue = (self.get("expect") or "").lower() == "100-continue"


class HostedHeads:
    """Makes heads, and keeps them.  `alias`: a second path of the endpoint at "/"; "" for none."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._known: dict[tuple[Any, ...], HostedHead] = {}

    def of(self, scope: Mapping[str, Any]) -> HostedHead:
        """The head of a request.

        Raises a Refusal for a prefix, a path or a repeated field that nothing may be made of, and RuntimeError for a
        scope that ASGI does not know.
        """
        try:
            fields = tuple([(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]])
            key = (
                scope["method"], scope["path"], scope.get("root_path"), scope.get("query_string"), scope.get("scheme"),
                fields,
            )  # fmt: skip
            head = self._known.get(key)
        except (KeyError, TypeError, ValueError) as exc:
            raise _broken(scope) from exc
        if head is None:
            if _fault(scope):
                raise _broken(scope)
            head = HostedHead(scope, fields, self._alias)
            if sum(len(name) + len(value) for name, value in fields) <= MAX_KEPT_HEAD:
                if len(self._known) >= MAX_HEADS:
                    self._known.clear()
                self._known[key] = head
        return head


def _fault(scope: Mapping[str, Any]) -> str:
    """The member of a request's scope that is missing or of a wrong type; empty where all are right."""
    for name, kind, needed in _MEMBERS:
        value = scope.get(name)
        if not isinstance(value, kind) and (value is not None or needed):
            return name
    for pair in scope["headers"]:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(one, bytes) for one in pair)):
            return "headers"
    return ""


def _broken(scope: Mapping[str, Any]) -> RuntimeError:
    name = _fault(scope) or "headers"  # an iterator that is used up shows no fault any more
    found = f"is {scope[name]!r:.80}" if name in scope else "is missing"
    return RuntimeError(f"the ASGI server's scope of a request is broken: {name!r} {found}")


def _quoted(text: str, safe: str, problem: str) -> str:
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError:  # half of a surrogate pair
        raise Refusal(400, f"Bad Request: {problem}") from None


def _prefix(root: str) -> str:
    problem = "the server's root_path is no path that can be given out"
    try:
        return checked_prefix(_quoted(root, _PATH + "%", problem))
    except ValueError:
        raise Refusal(400, f"Bad Request: {problem}") from None
