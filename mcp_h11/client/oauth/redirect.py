# SPDX-License-Identifier: MIT
"""The person's part of a login, as an interface: an address is opened in a browser, and the answer comes back.

RFC 6749, 4.1.1 and 4.1.2 (the request and its response), RFC 9207 (`iss`).  This module opens nothing.

Rule: the answer is handed on as it came.  `OAuth` checks `state` and `iss`, so that no implementation can forget to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs

# RFC 6749, 4.1.2 and 4.1.2.1; RFC 9207, 2.
_MEMBERS = ("code", "state", "iss", "error", "error_description")
MAX_RESPONSE = 64 * 1024  # characters of the address that the browser was sent to
MAX_RESPONSE_FIELDS = 50


@dataclass(frozen=True)
class AuthorizationResponse:
    """The parameters with which the browser came back to the redirect URI; None for one that is missing."""

    code: str | None = field(default=None, repr=False)
    state: str | None = field(default=None, repr=False)
    iss: str | None = None
    error: str | None = None
    error_description: str | None = None

    @classmethod
    def from_url(cls, url: str) -> AuthorizationResponse:
        """Reads the address that the browser was sent to, or its query alone.

        Raises:
            ValueError: the address is too long or has too many parameters, or one of the parameters is there twice,
                which RFC 6749, 3.1 forbids.  The error quotes no value.
        """
        if len(url) > MAX_RESPONSE:
            raise ValueError(f"an authorization response has more than {MAX_RESPONSE} characters")
        query = url.partition("#")[0].partition("?")[2] if "?" in url or "://" in url else url
        try:
            found = parse_qs(query, keep_blank_values=True, max_num_fields=MAX_RESPONSE_FIELDS)
        except ValueError:
            raise ValueError(f"an authorization response has more than {MAX_RESPONSE_FIELDS} parameters") from None
        for name in _MEMBERS:
            if len(found.get(name, ())) > 1:
                raise ValueError(f"an authorization response has {name!r} more than once")
        return cls(**{name: found[name][0] for name in _MEMBERS if name in found})


class Redirect(Protocol):
    """Shows a person the address of a login and receives the answer.  Give one as `OAuth(redirect=...)`.

    `OAuth` calls `start`, `authorize` and `aclose` once for each login, in this order; `aclose` comes after a failure
    and a cancellation too.
    """

    async def start(self, known: Sequence[str] = ()) -> str:
        """Gets ready for the answer, and returns the redirect URI, which is part of the request.

        Args:
            known: the redirect URIs that the client is registered with.  One of them saves a new registration.

        Raises:
            LoginFailed: there is no way to receive an answer, such as no free port.
        """

    async def authorize(self, url: str) -> AuthorizationResponse:
        """Shows or opens `url` and waits for the answer, without a check of `state` and `iss`.

        The `state` that is due is in the query of `url`: an implementation may go on waiting after an answer with
        another one, which any page in the person's browser can send.

        Raises:
            LoginFailed: the person gave up, or no answer came in time.
        """

    async def aclose(self) -> None:
        """Ends what `start` has begun."""
