# SPDX-License-Identifier: MIT
"""`POST /swap` and `POST /swap/NAME` on the port for operators: start a backend of a bridge anew.

The answer comes when the old backend is gone, and tells how long that took and how many calls it had still to answer.

Rules:
- Without `ops_token` the path does not exist.  That token is no other one: a client of the server may not swap.
- Only this machine may ask.  A page in a browser may not: a request with an Origin is refused, whichever it is.
- Each backend is swapped once at a time, its drain included.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..endpoint.error_answers import answer_error
from ..http.addresses import on_loopback
from ..http.auth import INVALID_TOKEN, challenge
from ..http.headers import JSON_HEADERS, Headers
from ..http.messages import Head
from ..http.origins import HostPolicy
from ..http.reply import Link, Reply
from ..protocol.errors import Refusal
from ..protocol.shown import escaping
from ..runtime.runtime import Runtime

logger = escaping(logging.getLogger(__name__))

SWAP_PATH = "/swap"
_ALLOW: Headers = (("Allow", "POST"),)
_MAPPED = "::ffff:"  # before an IPv4 address, at a socket of IPv6

Swap = Callable[[], Awaitable[Mapping[str, Any]]]


class SwapPage:
    """The two paths.  `runtime.handler` says which backends there are."""

    def __init__(self, runtime: Runtime, hosts: HostPolicy, token: str, *, local: bool) -> None:
        self._runtime = runtime
        self._hosts = hosts
        self._token = token.encode("ascii")
        self._local = local  # a Unix socket: its peers are on this machine, and have no address
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def has(self, path: str) -> bool:
        """Whether this path is one of the two."""
        return path == SWAP_PATH or path.startswith(f"{SWAP_PATH}/")

    def refusal(self, head: Head, link: Link | Reply) -> Refusal | None:
        """The reason why nothing is swapped; None where it may be."""
        if head.method != "POST":
            return Refusal(405, f"Method Not Allowed: {head.method:.20}", headers=_ALLOW)
        peer = link.peer.removeprefix(_MAPPED)
        if not (self._local or on_loopback(peer)) or head.get_all("origin"):
            return Refusal(403, "Only a program on this machine may swap a backend")
        host = head.get("host")
        if not self._hosts.check_host(host):
            return Refusal(403, f"Host {host!r:.100} is not allowed here")
        if not self._knows_token(head):
            given = INVALID_TOKEN if head.get("authorization") else ""
            return Refusal(401, "Unauthorized", headers=(challenge(error=given),))
        # Only for those who have the token: the names of the backends are not for others.
        names = self._swaps(head.path)
        if not names:
            return Refusal(404, "No backend is at this path")
        if self._busy.intersection(names):
            return Refusal(409, "This backend is being swapped already")
        return None

    def _knows_token(self, head: Head) -> bool:
        import hmac  # with all of hashlib, which most servers do without

        scheme, _, credentials = (head.get("authorization") or "").partition(" ")
        # Compared in constant time, with any scheme, so that the time taken tells nothing about the token.
        fits = hmac.compare_digest(credentials.strip().encode("latin-1"), self._token)
        return fits and scheme.lower() == "bearer"

    def _swaps(self, path: str) -> Mapping[str, Swap]:
        swaps = self._runtime.handler._swaps()
        if path == SWAP_PATH:
            return swaps
        name = path[len(SWAP_PATH) + 1 :]
        return {name: swaps[name]} if name and name in swaps else {}

    def respond(self, head: Head, reply: Reply) -> None:
        """Swap, and answer when the old backends are gone; or answer with the refusal."""
        refusal = self.refusal(head, reply)
        if refusal is not None:
            answer_error(reply, self._runtime.json, refusal)
            return
        swaps = self._swaps(head.path)
        # Now, and not in the task: the next request must see it.
        self._busy.update(swaps)
        task = asyncio.get_running_loop().create_task(self._swap(swaps, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _swap(self, swaps: Mapping[str, Swap], reply: Reply) -> None:
        try:
            outcomes = await asyncio.gather(*(swap() for swap in swaps.values()))
        except Exception:
            logger.exception("a backend cannot be swapped")
            outcomes = [{"swapped": False, "reason": "Internal error"} for _ in swaps]
        finally:
            self._busy.difference_update(swaps)
        # An error of the backend, as of a gateway that has no answer of it.
        status = 200 if all(outcome["swapped"] for outcome in outcomes) else 502
        told = dict(zip(swaps, outcomes, strict=True))
        body = json.dumps(told[""] if "" in told else {"backends": told}, separators=(",", ":")).encode("ascii")
        reply.answer(status, body, (*JSON_HEADERS, ("Cache-Control", "no-store")))

    def close(self) -> None:
        """End the swaps that still run: the backends have ended before."""
        for task in self._tasks:
            task.cancel()
