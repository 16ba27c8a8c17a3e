# SPDX-License-Identifier: MIT
"""The record of a session in the store of a fleet: the JSON of a `SessionState`, and whether the client is ready.

Rule: it names no principal, but a keyed hash of one.
"""

from __future__ import annotations

import json
from typing import Any

from ..protocol.methods import log_rank
from ..runtime.fairness import held_memory
from ..runtime.storage import MAX_CLIENT_MEMORY, SessionState
from .fleet_sharing import SharingSession

FORMAT = 1  # of a record


def encoded_record(session: SharingSession, principal: str, stream: str = "") -> bytes:
    """The record of a session.

    Args:
        session: the session, as this worker knows it.
        principal: the hash of the principal.
        stream: the id of the session's own stream that follows the one which it has.
    """
    state = session.state
    former = state.stream if stream else state.former
    record = {
        "format": FORMAT,
        "revision": state.revision,
        "client_info": state.client_info,
        "client_capabilities": state.client_capabilities,
        "log_level": state.log_level,
        "subscriptions": sorted(state.subscriptions),
        "principal": principal,
        "created": state.created,
        "generation": state.generation,
        "home": state.home,
        "pinned": state.pinned,
        "stream": stream or state.stream,
        "initialized": session.initialized,
    }
    if former:
        record["former"] = former
    return json.dumps(record, separators=(",", ":")).encode()


def state_in_record(session_id: str, value: bytes) -> tuple[SessionState, bool]:
    """The state in a record, and whether the client is initialized.

    Raises ValueError, TypeError, KeyError, AttributeError, RecursionError or MCPError where it is no record of ours.
    """
    record: dict[str, Any] = json.loads(value)
    if record.pop("format") != FORMAT:
        raise ValueError("another format")
    initialized, subscriptions = bool(record.pop("initialized")), frozenset(record.pop("subscriptions"))
    state = SessionState(id=session_id, subscriptions=subscriptions, **record)
    texts = (state.revision, state.log_level, state.principal, state.home, state.stream, state.former, *subscriptions)
    client = (state.client_info, state.client_capabilities)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(part, dict) for part in client)
        and type(state.created) in (int, float)
        and type(state.generation) is int
        and type(state.pinned) is bool
    ):
        raise ValueError("a member of another type")
    log_rank(state.log_level)
    if held_memory(client) > 2 * MAX_CLIENT_MEMORY:
        raise ValueError("too large")
    return state, initialized
