# SPDX-License-Identifier: MIT
"""One request of a client with its options, and the answer of a server to a handshake."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...protocol.revisions import Revision
from .pending import OnNotification, OnRequest, Progress


@dataclass
class ClientRequest:
    """One request, as a user of the client makes it; `Client.request` explains the options.

    Attributes:
        private: its notifications go to its own callback only, not to the callbacks of the client.
        owner: the client of a bridge that the request is for; None for a client that serves one user.
        mirrored: the member of params that the header `Mcp-Name` repeats, for a method of an extension.
        announces: extensions that this request announces beside the client's own, each with its result types.
    """

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    progress: Progress | None = None
    safe: bool | None = None
    on_notification: OnNotification | None = None
    on_request: OnRequest | None = None
    rounds: bool = True
    meta: Mapping[str, Any] | None = None
    private: bool = False
    owner: Hashable = None
    mirrored: str | None = None
    announces: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Negotiated:
    """The answer of a server to a probe or a handshake, and the revision that follows from it.

    Attributes:
        supported: the versions that the server named, unchanged; this package may not know all of them.
    """

    revision: Revision
    server_info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None
    supported: tuple[str, ...] = ()
