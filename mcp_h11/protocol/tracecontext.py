# SPDX-License-Identifier: MIT
"""Trace context as a client sends it: `traceparent`, `tracestate` and `baggage` (W3C Trace Context 1, W3C Baggage).

2026-07-28 basic/index puts the three into a request's `_meta`; HTTP has headers of the same names.  `_meta` goes first,
since a proxy on the way knows nothing of it, and the two are never mixed.

Rule: a value without the right format is ignored, as if it had not been sent; there are no errors (Trace Context 2.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_TRACESTATE = 512  # characters, and members, that each hop has to pass on (Trace Context 3.3.1.5, 3.3.1.1)
MAX_TRACESTATE_MEMBERS = 32
MAX_BAGGAGE = 8192  # bytes, and members (Baggage 3.3.2)
MAX_BAGGAGE_MEMBERS = 64

# Compiled when they are first needed: most servers never see a trace.
# Trace Context 3.2.2: a later version may have more behind another hyphen.
_PARENT = r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
_STATE = (
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = r"[!#-+\--:<-\[\]-~]*"
_BAGGAGE = rf"{_TOKEN}[ \t]*=[ \t]*{_VALUE}(?:[ \t]*;[ \t]*{_TOKEN}(?:[ \t]*=[ \t]*{_VALUE})?)*"


@dataclass(frozen=True)
class Trace:
    """The trace that a request belongs to; a part is empty if the request has no usable one.

    Client input: no proof of anything.
    """

    traceparent: str = ""
    tracestate: str = ""
    baggage: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, or empty."""
        return self.traceparent[3:35]

    @property
    def parent_id(self) -> str:
        """The caller's span: 16 hexadecimal digits, or empty."""
        return self.traceparent[36:52]

    @property
    def sampled(self) -> bool:
        """Whether the caller records this trace (Trace Context 3.2.2.5.1)."""
        return bool(self.traceparent) and int(self.traceparent[53:55], 16) & 1 == 1


def read_trace(meta: Mapping[str, Any], get_all: Callable[[str], list[str]] | None = None) -> Trace | None:
    """The trace context of `_meta`, or else of the headers that `get_all` reads; None where neither has any."""
    parent, state, baggage = (_text(meta.get(name)) for name in ("traceparent", "tracestate", "baggage"))
    if get_all is not None and not parent and not baggage:
        parents = get_all("traceparent")
        # Several are not one (Trace Context 2.3.1); of the others several lines are one list.
        parent = parents[0] if len(parents) == 1 else ""
        state, baggage = ",".join(get_all("tracestate")), ",".join(get_all("baggage"))
    parent, baggage = _parent(parent), _baggage(baggage)
    if not parent and not baggage:
        return None
    # Trace Context 2.3.2: without a parent the state means nothing.
    return Trace(parent, _state(state) if parent else "", baggage)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parent(value: str) -> str:
    value = value.strip(" \t")
    match = re.fullmatch(_PARENT, value) if len(value) <= MAX_TRACESTATE else None
    if match is None:
        return ""
    version, trace_id, parent_id, _, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(parent_id, 16):
        return ""
    return value


def _state(value: str) -> str:
    members = _members(value, MAX_TRACESTATE, MAX_TRACESTATE_MEMBERS)
    keys = {member.partition("=")[0] for member in members}
    if len(keys) < len(members) or not all(re.fullmatch(_STATE, member) for member in members):
        return ""
    return ",".join(members)


def _baggage(value: str) -> str:
    members = _members(value, MAX_BAGGAGE, MAX_BAGGAGE_MEMBERS)
    return ",".join(members) if all(re.fullmatch(_BAGGAGE, member) for member in members) else ""


def _members(value: str, longest: int, most: int) -> list[str]:
    """The members of a list; none where it is too long or has too many.  Empty ones are allowed, and left out."""
    if len(value) > longest:
        return []
    members = [member for part in value.split(",") if (member := part.strip(" \t"))]
    return members if len(members) <= most else []
