# SPDX-License-Identifier: MIT
"""Change notices: a handler publishes them, and every server that serves the handler receives them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..protocol.uris import normal

EXTENDED = "extended"  # the kind of a notice of an extension


@dataclass(frozen=True)
class Notice:
    """Something changed: `kind` is "tools", "prompts", "resources", or "updated" with the `uri` that was.

    A notice of an extension has the kind EXTENDED; `extended` makes it.

    `audience` is called with the principal of a client and the generation of its session (None without a session), and
    returns whether that client gets the notice.  Without an audience every client gets it.  Pipes do not call it, since
    they have one client.
    """

    kind: str
    uri: str | None = None
    audience: Callable[[str, int | None], bool] | None = None
    method: str = ""  # of an extension: the notification,
    params: dict[str, Any] = field(default_factory=dict, compare=False)  # and its params
    name: str = field(default="", compare=False)  # one for all workers of a fleet; the runtime gives it

    @classmethod
    def extended(cls, key: str, method: str, params: dict[str, Any]) -> Notice:
        """The notification `method` with `params` for each listen stream that has this `key` (`Extension.heard`)."""
        return cls(EXTENDED, key, None, method, params)

    @property
    def normal_uri(self) -> str:
        """The `uri` in the one spelling of all that are equal (RFC 3986, 6.2.2); empty where there is none."""
        return normal(self.uri or "")

    def is_for(self, principal: str, generation: int | None) -> bool:
        """Whether the client of this principal and generation gets the notice."""
        return self.audience is None or self.audience(principal, generation)


class Notices:
    """Carries each notice from the thread that publishes it to every server that serves the handler."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Notice], None]] = []
        self._lock = threading.Lock()

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        """`listener` is called for every notice, in the thread that published it, and must not raise or block."""
        with self._lock:
            # A new list, because `publish` may be reading the old one without the lock.
            self._listeners = [*self._listeners, listener]

    def unsubscribe(self, listener: Callable[[Notice], None]) -> None:
        """No further calls; harmless where it was not subscribed."""
        with self._lock:
            self._listeners = [known for known in self._listeners if known != listener]

    def publish(self, notice: Notice) -> None:
        """Call every listener, in this thread; any thread may publish."""
        # Without the lock: a listener may take other locks, and `subscribe` never changes this list.
        for listener in self._listeners:
            listener(notice)
