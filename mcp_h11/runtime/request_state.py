# SPDX-License-Identifier: MIT
"""Strings that travel through the client and come back unchanged, or are refused.

`requestState` passes through the client, so it is hostile input when it returns (2026-07-28 basic/patterns/mrtr,
Server Requirements 4 and 5).  A sealed string carries an expiry and an HMAC.  The HMAC covers the principal, the method
and the arguments too, so that the string is refused with any others.  It is signed, not encrypted: the client can read
it.

Rule: no clock here (`now` is an argument, in seconds since the epoch).  Every failed check raises one exception with
one text, so that a client cannot learn which check failed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Sequence
from typing import Any

from ..protocol.errors import InvalidParams

DEFAULT_TTL = 600  # seconds; the time a user may take to answer
MIN_KEY = 16  # bytes of a key
NONCE_BYTES = 12
MAX_SEALED = 64 * 1024  # bytes; a longer string is refused before it is decoded
MAX_OLD_KEYS = 2  # that still open states, after the fleet has lost its key and made another
_MAC_SIZE = 32  # SHA-256
_EXPIRY_SIZE = 8


def new_key() -> bytes:
    """A key for one process; give all replicas the same one where several serve one endpoint."""
    return os.urandom(32)


def new_id(size: int) -> str:
    """`size` random bytes as text of letters, digits, "-" and "_", beyond guessing."""
    return base64.urlsafe_b64encode(os.urandom(size)).rstrip(b"=").decode("ascii")


class Sealer:
    """Seals with the first key, opens with any: to rotate, put the new one in front, drop the old one after `ttl`."""

    def __init__(self, keys: Sequence[bytes] = (), ttl: float = DEFAULT_TTL) -> None:
        if any(len(key) < MIN_KEY for key in keys):
            raise ValueError(f"a sealing key has at least {MIN_KEY} bytes")
        self._keys = tuple(keys) or (new_key(),)
        self._own = not keys  # the operator gave none
        self.ttl = ttl
        self.clocks_differ = 0.0  # seconds by which the clock of the worker that sealed may be behind

    def share(self, key: bytes) -> None:
        """Seal with the key of the fleet, where the operator gave none; states sealed before still open."""
        if self._own and key != self._keys[0]:
            self._keys = (key, *self._keys[:MAX_OLD_KEYS])

    def seal(self, payload: dict[str, Any], bound: bytes, now: float) -> str:
        """`payload` as an opaque string that `open` accepts for the same `bound` until `ttl` seconds from `now`.

        Raises ValueError or TypeError where the payload is no JSON, or is larger than a client should carry.
        """
        text = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode("ascii")
        head = int(now + self.ttl).to_bytes(_EXPIRY_SIZE, "big")
        sealed = base64.urlsafe_b64encode(_mac(self._keys[0], head, text, bound) + head + text).decode("ascii")
        if len(sealed) > MAX_SEALED:
            raise ValueError(f"the state of this call is larger than {MAX_SEALED} bytes")
        return sealed

    def open(self, sealed: str, bound: bytes, now: float) -> dict[str, Any]:
        """The payload.  Raises InvalidParams where it was changed, is too old, or belongs to another request."""
        import hmac  # as in `_mac`

        try:
            if len(sealed) > MAX_SEALED:
                raise ValueError
            given = sealed.encode("ascii")
            raw = base64.b64decode(given, altchars=b"-_", validate=True)
            # Several texts decode to the same bytes: the last character has unused bits, and "+/" mean the same as
            # "-_".  Only the text that `seal` made is accepted.
            if base64.urlsafe_b64encode(raw) != given:
                raise ValueError
            mac, head, text = (
                raw[:_MAC_SIZE],
                raw[_MAC_SIZE : _MAC_SIZE + _EXPIRY_SIZE],
                raw[_MAC_SIZE + _EXPIRY_SIZE :],
            )
            # Every key is tried, so that the time taken does not tell which key fits.
            fits = [hmac.compare_digest(mac, _mac(key, head, text, bound)) for key in self._keys]
            if not any(fits):
                raise ValueError
            if now > int.from_bytes(head, "big") + self.clocks_differ:
                raise ValueError
            payload = json.loads(text)
        except (ValueError, binascii.Error):
            raise InvalidParams("Invalid or expired requestState") from None
        if not isinstance(payload, dict):
            raise InvalidParams("Invalid or expired requestState")
        return payload


def _mac(key: bytes, head: bytes, text: bytes, bound: bytes) -> bytes:
    # Imported here because these modules take half a megabyte: a server that never seals a state does without them.
    import hashlib
    import hmac

    # Both lengths are fixed or hashed first, so no two (text, bound) pairs give the same input.
    return hmac.new(key, head + hashlib.sha256(text).digest() + bound, hashlib.sha256).digest()
