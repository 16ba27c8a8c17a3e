# SPDX-License-Identifier: MIT
"""The head of a request as an ASGI server describes it, as a `Head`.

Clients repeat their heads, so the values are kept: the endpoint keeps its verdict on a head with the head.

ASGI specification, HTTP & WebSocket ASGI Message Format, HTTP Connection Scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..http.addresses import checked_prefix
from ..http.messages import Head
from ..protocol.errors import Refusal

MAX_HEADS = 512  # heads that are kept
MAX_KEPT_HEAD = 4 * 1024  # bytes of the fields of a head that is kept
_PATH = "/!$&'()*+,;=:@~"  # characters of a path that need no percent-encoding (RFC 3986 section 3.3)
_ONCE = (b"host", b"content-length", b"content-type")


class HostedHead(Head):
    """A head whose prefix and scheme the other server knows."""

    __slots__ = ("prefix", "scheme")

    def __init__(self, scope: Mapping[str, Any], fields: tuple[tuple[bytes, bytes], ...], alias: str) -> None:
        root, path = str(scope.get("root_path") or "").rstrip("/"), str(scope["path"])
        if root and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :]  # since 2023 the path of a mounted application begins with the prefix
        path = quote(path or "/", safe=_PATH)
        super().__init__(str(scope["method"]), path, path, str(scope.get("http_version", "1.1")), fields)
        self.path = "/" if path.rstrip("/") == alias else path
        self.query = bytes(scope.get("query_string", b"")).decode("latin-1")
        self.scheme = str(scope.get("scheme", "http"))
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
        """The head of a request.  Raises a Refusal for a prefix, or a repeated field, that nothing may be made of."""
        fields = tuple([(bytes(name), bytes(value)) for name, value in scope["headers"]])
        key = (
            scope["method"], scope["path"], scope.get("root_path"), scope.get("query_string"), scope.get("scheme"),
            fields,
        )  # fmt: skip
        head = self._known.get(key)
        if head is None:
            head = HostedHead(scope, fields, self._alias)
            if sum(len(name) + len(value) for name, value in fields) <= MAX_KEPT_HEAD:
                if len(self._known) >= MAX_HEADS:
                    self._known.clear()
                self._known[key] = head
        return head


def _prefix(root: str) -> str:
    try:
        return checked_prefix(quote(root, safe=_PATH + "%"))
    except ValueError:
        raise Refusal(400, "Bad Request: the server's root_path is no path that can be given out") from None
