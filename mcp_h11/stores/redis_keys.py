# SPDX-License-Identifier: MIT
"""The names of keys and channels in Redis, and times to live as it takes them.

A cluster puts keys with the same text in braces on one node, which a script needs.  So a space of records is on one
node, since its limits and the order of last use belong to the whole space; so are all inboxes and heartbeats; and the
logs of one session.  `p` is the prefix.

| key | type | |
|---|---|---|
| `p:v` | string | the format of all these |
| `p:r:{space}:key` | hash | a record |
| `p:u:{space}`, `p:x:{space}` | sorted sets | its last use, its end |
| `p:g:{space}`, `p:k:{space}` | sorted set, hash | the records of each group, the group of each record |
| `p:e:{session}:stream` | hash | a log: its state and its events |
| `p:n:{session}` | sorted set | the logs of a session |
| `p:w:{inbox}`, `p:t:{inbox}` | sorted set, hash | heartbeats, and their clock |
| `p:i:{inbox}:worker`, `p:z:{inbox}:worker` | stream, string | an inbox and its bytes |
| `p:y:{inbox}:worker` | hash | the messages and the bytes of each party in it |
| `p:f:{bus}`, `p:c:{bus}:worker` | channels | the bus, for all and for one |

Rule: a part of a name that comes from a caller is short and has no character of its own meaning, or is hashed.
"""

from __future__ import annotations

import hashlib
import math
import re

REDIS_FORMAT = "2"  # at `p:v`; a store with another one is refused
LONGEST_TTL = 100 * 365 * 86_400.0  # seconds; Redis counts in milliseconds and fails when they overflow
HASHED_NAME = "="  # begins a part that is hashed

_PLAIN = re.compile(r"[A-Za-z0-9._~-]{1,64}")


def redis_name(text: str) -> str:
    """A part of a name: the text where it is plain, else a hash of it."""
    return text if _PLAIN.fullmatch(text) else HASHED_NAME + hashlib.sha256(redis_bytes(text)).hexdigest()


def redis_bytes(text: str) -> bytes:
    """Any text as bytes, half surrogates too: JSON can hold them, and UTF-8 cannot."""
    return text.encode("utf-8", "surrogatepass")


def redis_text(data: bytes) -> str:
    """The text that `encoded` took."""
    return data.decode("utf-8", "surrogatepass")


def redis_ttl(ttl: float) -> int:
    """A time to live for Redis: no sooner than asked for, and at least one."""
    return max(1, math.ceil(min(ttl, LONGEST_TTL) * 1000))
