# SPDX-License-Identifier: MIT
"""A POST without a task: it is written at once on an idle connection, and its answer is heard where it is read.

Most answers come with one read.  An answer that does not, and all that has to be waited for, goes on in a task of the
caller (`HTTPClient.go_on`).

Rule: a connection belongs to one straight request, to one task, or to the pool; it changes hands before anything else
is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...http.client import END, AnswerHead, PostHead
from .urls import Origin
from .wire import GONE, AnswerTimeout, BadAnswer, BrokenAnswer, HTTPAnswer, HTTPFailure, Wire, broken_by


class Post:
    """The POST requests to one URL with the same headers: made by `HTTPClient.post_of`, sent by `HTTPClient.begin`."""

    __slots__ = ("head", "headers", "origin", "url")

    def __init__(self, url: str, headers: list[tuple[str, str]], origin: Origin, head: PostHead) -> None:
        self.url = url
        self.headers = headers
        self.origin = origin
        self.head = head


class Straight:
    """One such request on its way.  `HTTPClient.begin` makes it.

    Attributes:
        post, body, repeatable: of the request.
        owner: the object that `heard` needs; nothing here looks at it.
        answer: the answer, with its whole body in `whole` where that has come.  Not both this and `error`.
        error: why there is no answer.
        again: the connection was an old one and may have ended before the request came: send it once more.
    """

    __slots__ = (
        "_give_back", "_heard", "_timer", "_wire", "again", "answer", "body", "error", "owner", "post", "repeatable",
        "whole",
    )  # fmt: skip

    def __init__(
        self,
        post: Post,
        body: bytes,
        repeatable: bool,
        wire: Wire,
        give_back: Callable[[Wire], None],
        heard: Callable[[Straight], None],
        owner: Any,
    ) -> None:
        self.post = post
        self.body = body
        self.repeatable = repeatable
        self.owner = owner
        self.answer: HTTPAnswer | None = None
        self.whole: bytes | None = None
        self.error: HTTPFailure | None = None
        self.again = False
        self._wire: Wire | None = wire
        self._give_back = give_back
        self._heard = heard
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes, limit: float | None) -> None:
        """Writes the request, and listens.  Raises an exception of `GONE`: nothing was written.

        `limit` is the seconds that the server may read nothing for.
        """
        wire = self._wire
        assert wire is not None
        wire.heard = False
        wire.line.write(data)
        wire.written = True  # it is all with the line, which says whether the system has it
        wire.line.on_news = self._news
        if not wire.line.writable and limit is not None:
            self._timer = asyncio.get_running_loop().call_later(limit, self._unread, limit)

    def close(self) -> None:
        """Gives the request up: its connection is closed, and nothing is heard of it any more."""
        wire = self._taken()
        if wire is not None:
            wire.written = False  # never used again
            self._give_back(wire)

    def _taken(self) -> Wire | None:
        wire, self._wire = self._wire, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wire is not None:
            wire.line.on_news = None
        return wire

    def _unread(self, limit: float) -> None:
        if self._wire is not None and not self._wire.line.writable and not self._wire.heard:
            self._fail(AnswerTimeout(f"the server has read nothing for {limit} s"))

    def _news(self, data: bytes) -> None:
        wire = self._wire
        assert wire is not None
        try:
            found = wire.http.receive_whole(data)
            if found is not None:
                head, self.whole = found
            else:
                begun = self._begun(wire, data)
                if begun is None:
                    return
                head = begun
            if head.encoded:
                raise BadAnswer(f"status {head.status} with a Content-Encoding that was not asked for")
        except HTTPFailure as error:
            self._fail(error)
            return
        if self.answer is None:
            self.answer = HTTPAnswer(head, None, self._give_back)
        self._taken()
        if self.whole is not None:
            self._give_back(wire)
        self._heard(self)

    def _begun(self, wire: Wire, data: bytes) -> AnswerHead | None:
        """The head, once it is there; the body as well if it has come to its end.  Raises HTTPFailure."""
        if not data:
            try:
                wire.line.check()
            except GONE as error:
                raise broken_by(error) from error
        wire.take(data)
        head = wire.buffered_event()
        if head is None:
            return None
        assert type(head) is AnswerHead
        pieces: list[bytes] = []
        try:
            while type(event := wire.buffered_event()) is bytes:
                pieces.append(event)
        except HTTPFailure:
            event = None  # the wire raises it again, to the reader who has read the pieces before it
        if event is END:
            self.whole = b"".join(pieces)
        else:
            self.answer = HTTPAnswer(head, wire, self._give_back, pieces)
        return head

    def _fail(self, error: HTTPFailure) -> None:
        wire = self._taken()
        assert wire is not None
        # The server may have closed the idle connection while the request was on its way (RFC 9112, 9.3.1).
        self.again = isinstance(error, BrokenAnswer) and not wire.heard and (self.repeatable or not error.sent)
        self.answer, self.whole = None, None
        self.error = error
        wire.written = False
        self._give_back(wire)
        self._heard(self)
