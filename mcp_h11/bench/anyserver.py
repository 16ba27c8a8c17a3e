# SPDX-License-Identifier: MIT
"""Scripts for servers of which nothing is known: one operation that the user names, again and again.

The operation is a call of a tool (`LoadPlan.tool`, `arguments`), or another method (`LoadPlan.method`).  Each request
has an id of its own, as the specification wants it of one session (2025-11-25 basic, Requests).  An error in a good
exchange is yielded as a `Wrong`, so that it is counted and the connection goes on; an error that ends the exchange is
raised.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .heads import Traffic
from .scenarios import SCENARIOS, LoadPlan, Scenario, Script, opened
from .talk import MAX_KNOWN, Dialect, WholeAnswer, Wrong, result_of, text_of

FIRST_ID, LAST_ID = 1_000_000, 9_999_999  # of one width, so that heads repeat
CALL = "tools/call"
REOPENED = (401, 403, 404, 410)  # statuses after which a session is opened anew


def params_of(load: LoadPlan) -> dict[str, Any]:
    """The params of the request that the plan is about."""
    return {"name": load.tool, "arguments": load.arguments} if load.method == CALL else {}


class Judging:
    """Whether an answer is good: any result that is no error, one text, or the same result each time."""

    def __init__(self, load: LoadPlan) -> None:
        self._load = load
        self._first: dict[str, Any] | None = None

    def judge(self, answer: WholeAnswer, id: int) -> None:
        """Raise Wrong for a bad one."""
        self.check(result_of(answer, id)[0])

    def check(self, result: dict[str, Any]) -> None:
        """The same of a result.  Raises Wrong."""
        if self._load.expect is not None and self._load.method == CALL:
            text = text_of(result)
            if text != self._load.expect:
                raise Wrong(f"{text[:100]!r} where {self._load.expect[:100]!r} was expected")
        elif not self._load.any_answer:
            result = {name: value for name, value in result.items() if name != "_meta"}
            if self._first is None:
                self._first = result
            elif result != self._first:
                raise Wrong(f"the answer changed: {str(result)[:200]}")


def requests_of(load: LoadPlan, dialect: Dialect, progress: bool) -> Callable[[int], bytes]:
    """Makes the request with an id of seven digits."""
    request = dialect.request(FIRST_ID, load.method, params_of(load), progress)
    head, _, body = request.partition(b"\r\n\r\n")
    before, _, after = body.partition(b'"id":%d' % FIRST_ID)
    fields = {**dialect.message(FIRST_ID, load.method, params_of(load), progress)[1], **load.headers}

    def make(id: int) -> bytes:
        body = b'%b"id":%d%b' % (before, id, after)
        if load.traffic is not None:
            return load.traffic.request(body, fields)
        if not load.new_head:
            return b"%b\r\n\r\n%b" % (head, body)
        load.serial += 1  # a field that no server knows, and a value that no other connection has
        return b"%b\r\nX-Serial: %d.%d\r\n\r\n%b" % (head, os.getpid(), load.serial, body)

    return make


def numbered(load: LoadPlan, dialect: Dialect, progress: bool = False) -> Script:
    """The operation for ever, each time with the next id."""
    judging = Judging(load)
    request = requests_of(load, dialect, progress)
    known: bytes | None = None
    id = FIRST_ID
    while True:
        id = id + 1 if id < LAST_ID else FIRST_ID
        answer = yield request(id)
        plain = answer.body.replace(b"%d" % id, b"", 1)
        if plain == known and answer.framing.status == 200:
            yield None
            continue
        try:
            judging.judge(answer, id)
        except Wrong as exc:
            if not load.errors_allowed or answer.framing.status in REOPENED:
                raise
            yield Wrong(str(exc), exc.kind)
        else:
            known = plain if len(plain) <= MAX_KNOWN else None
            yield None


def operations(load: LoadPlan, number: int) -> Script:
    """The operation on one connection, in a session of its own where the server has sessions."""
    dialect = load.dialect()
    yield from opened(load, dialect)
    yield from numbered(load, dialect)


def operations_with_progress(load: LoadPlan, number: int) -> Script:
    """The same with a progress token, so that a server may send events before its answer."""
    dialect = load.dialect()
    yield from opened(load, dialect)
    yield from numbered(load, dialect, progress=True)


def operations_with_new_heads(load: LoadPlan, number: int) -> Script:
    """The same, each head different."""
    load.new_head = True
    return operations(load, number)


def operations_behind_a_proxy(load: LoadPlan, number: int) -> Script:
    """The same with heads as proxies send them.  No token is made up: a server could refuse it."""
    if load.traffic is None:
        load.traffic = Traffic(os.getpid(), host=load.dialect().host, tokens=False, path=load.path)
    return operations(load, number)


def whole_sessions(load: LoadPlan, number: int) -> Script:
    """Initialize, initialized, one operation, DELETE."""
    judging = Judging(load)
    while True:
        dialect = load.dialect()
        yield from opened(load, dialect)
        if dialect.session is None:
            raise Wrong("no session id at initialize")
        answer = yield dialect.request(FIRST_ID, load.method, params_of(load))
        judging.judge(answer, FIRST_ID)
        answer = yield dialect.delete()
        if answer.framing.status not in (200, 202, 204, 405):  # 405: the server ends sessions by itself
            raise Wrong(f"DELETE was answered with {answer.framing.status}", f"HTTP {answer.framing.status}")
        load.sessions.pop(dialect.session, None)
        yield None


BOTH = ("legacy", "modern")
ANYWHERE = {
    one.name: one
    for one in (
        Scenario("call", operations, "a request on a kept connection", (1, 20, 100), BOTH),
        Scenario("call-new-head", operations_with_new_heads, "the same, each head different", (20,), BOTH),
        Scenario("behind-proxy", operations_behind_a_proxy, "the same, its head from a proxy", (20,), BOTH),
        Scenario("connect", operations, "a request on a new connection", (20,), BOTH, reconnect=True),
        Scenario("session", whole_sessions, "initialize, initialized, a request, DELETE", (20,), sessions=True),
        Scenario("stream", operations_with_progress, "a request whose progress is asked for", (20,), BOTH),
    )
}
# The tools that these scenarios of bench/ call; bench/README.md says how they have to answer.
TOOLS_OF_OURS = {"echo-1k": "echo", "echo-64k": "echo", "echo-1m": "echo", "sleep": "sleep", "resume": "ticks"}
OURS = {name: SCENARIOS[name] for name in TOOLS_OF_OURS}
