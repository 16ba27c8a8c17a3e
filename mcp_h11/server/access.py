# SPDX-License-Identifier: MIT
"""The facts of an answer that the access log and the metrics need, and the lines of the log.

The facts are kept only where the access log or the metrics are on; without them a reply costs nothing more.

Rule: a line has no token, no body, no query, and only the first 8 characters of a session id.  No text that a client
chose can begin a new line.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from ..http.auth import subject
from ..http.headers import JSON_HEADERS, Headers
from ..http.messages import Head, HTTPRequest
from ..http.reply import COMMENT, Link, Reply
from ..http.sse import Parts
from ..protocol.jsonrpc import Notification, Request
from ..protocol.tracecontext import read_trace
from ..runtime.metrics import Metrics
from ..runtime.runtime import Runtime

# The name is older than this module, and is kept for the logging configurations that mention it.  A vendored copy logs
# under the name of its own package.
logger = logging.getLogger(__name__.rpartition(".server.")[0] + ".connection.access")

MAX_FIELD = 100  # characters of a text that a client or the issuer of its token chose
SESSION_PREFIX = 8


class RecordedReply(Reply):
    """A reply that remembers the fields of its line in the log."""

    records = True

    __slots__ = ("_meta", "began", "error", "method", "principal", "status", "tool")

    def __init__(self, link: Link, request: HTTPRequest, now: float) -> None:
        super().__init__(link, request)
        self.began = now
        self.status = 0  # 0 until the answer has begun
        self.method = ""  # the JSON-RPC method
        self.tool = ""  # the called tool, as the client names it
        self.error = ""
        self.principal: Any = None
        self._meta: Any = None

    def note(self, message: object, principal: object) -> None:
        self.principal = principal
        if isinstance(message, (Request, Notification)):
            self.method, self._meta = message.method, message.params.get("_meta")
            if message.method == "tools/call" and isinstance(name := message.params.get("name"), str):
                self.tool = name
        elif isinstance(message, list):
            self.method = "batch"

    def failed(self, kind: int | str) -> None:
        self.error = str(kind)

    def answer(self, status: int, body: bytes = b"", headers: Headers = JSON_HEADERS, *, close: bool = False) -> None:
        self.status = self.status or status
        super().answer(status, body, headers, close=close)

    def open(self, first: bytes = COMMENT) -> None:
        self.status = self.status or 200
        super().open(first)

    def stream_once(self, events: bytes) -> None:
        self.status = self.status or 200
        super().stream_once(events)

    def send_parts(self, event: Parts, last: bool) -> None:
        self.status = self.status or 200
        super().send_parts(event, last)

    def fields(self, seconds: float) -> dict[str, Any]:
        """The fields of its line, in order; an empty field is left out."""
        head = self.request.head
        meta = self._meta if isinstance(self._meta, dict) else {}
        trace = read_trace(meta, head.get_all)
        return _fields(
            self.peer, head.method, head.path, self.status, seconds,
            rpc=self.method,
            session=(head.get("mcp-session-id") or "")[:SESSION_PREFIX],
            principal=subject(self.principal),
            error=self.error,
            trace=trace.trace_id if trace is not None else "",
            span=trace.parent_id if trace is not None else "",
        )  # fmt: skip


class Recorder:
    """Counts and logs each answer when it is over.  `form` makes the log line; None switches the log off."""

    def __init__(self, form: Callable[[dict[str, Any]], str] | None, metrics: Metrics | None) -> None:
        self._form = form
        self.metrics = metrics
        # A gateway says which of its backends is at a path, for the log and the metrics; empty for none.
        self.backend_of: Callable[[str], str] | None = None

    def finished(self, reply: RecordedReply, now: float) -> None:
        """Record an answer that is complete, or ended because its client is gone."""
        seconds, metrics = now - reply.began, self.metrics
        backend = "" if self.backend_of is None else self.backend_of(reply.request.head.path)
        if metrics is not None:
            metrics.responses[reply.status] += 1
            if reply.method:
                status = reply.status
                # If the client left before its answer began, it is not known whether the tool exists: the call counts
                # as an error, so that its name gets no label.
                error = reply.error or (str(status) if status >= 400 else "" if status else "disconnected")
                counted = metrics.backends.get(backend, metrics)
                counted.operation(reply.method, error, seconds, reply.tool)
        if self._form is not None and logger.isEnabledFor(logging.INFO):
            fields = reply.fields(seconds)
            self._log({**fields, "backend": backend} if backend else fields)

    def refused(self, peer: str, head: Head | None, status: int) -> None:
        """Record a refusal that was sent before the whole request had arrived; `head` is None where it is unknown."""
        if self.metrics is not None:
            self.metrics.responses[status] += 1
        if self._form is not None and logger.isEnabledFor(logging.INFO):
            method, path = ("-", "-") if head is None else (head.method, head.path)
            fields = refused_fields(peer, method, path, status)
            backend = "" if self.backend_of is None else self.backend_of(path)
            self._log({**fields, "backend": backend} if backend else fields)

    def _log(self, fields: dict[str, Any]) -> None:
        assert self._form is not None
        # A formatter that writes JSON has the fields beside the line that is made of them.
        logger.info("%s", self._form(fields), extra={"access": fields})


def recorder_of(runtime: Runtime) -> Recorder | None:
    """The recorder that the settings of a server ask for, with the metrics of its runtime, which it makes."""
    settings = runtime.settings
    if settings.metrics or settings.apart:
        runtime.metrics = Metrics()
    if not settings.access_log and runtime.metrics is None:
        return None
    form = as_json if settings.access_log == "json" else as_text if settings.access_log else None
    return Recorder(form, runtime.metrics)


def refused_fields(peer: str, method: str, path: str, status: int) -> dict[str, Any]:
    """The fields of a refusal that was sent before the whole request had arrived, as `RecordedReply.fields`."""
    return _fields(peer, method, path, status, None)


def _fields(peer: str, method: str, path: str, status: int, seconds: float | None, **more: str) -> dict[str, Any]:
    found: dict[str, Any] = {"peer": peer or "-", "method": method, "path": path, "status": status or None}
    if seconds is not None:
        found["seconds"] = round(seconds, 6)
    found.update((name, value[:MAX_FIELD]) for name, value in more.items() if value)
    return found


def as_text(fields: dict[str, Any]) -> str:
    """One line: peer, request, status, duration, then the other known fields as name=value."""
    rest = dict(fields)
    peer, method, path, status = (rest.pop(name) for name in ("peer", "method", "path", "status"))
    parts = [peer, f'"{_plain(method)} {_plain(path)}"', str(status or "-")]
    if "seconds" in rest:
        parts.append(f"{rest.pop('seconds'):.3f}s")
    parts += [f"{name}={_plain(value)}" for name, value in rest.items()]
    return " ".join(parts)


def as_json(fields: dict[str, Any]) -> str:
    """One line: a JSON object of the same fields."""
    return json.dumps(fields, separators=(",", ":"))


def _plain(text: str) -> str:
    """Visible ASCII without quotes, because programs split a line at its blanks, and people read it in terminals."""
    return "".join(c if "!" <= c <= "~" and c not in '"\\' else "?" for c in text)
