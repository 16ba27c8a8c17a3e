# SPDX-License-Identifier: MIT
"""Tells an answer to this login from all others, by its `state` (RFC 6749, 4.1.2 and 10.12).

Rule: the reasons are for the person at the browser, and quote nothing of the address.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs, urlsplit

from .redirect import AuthorizationResponse


class WrongAnswer(ValueError):
    """An address that is no answer to this login; the text says why."""


def state_of(url: str) -> str:
    """The `state` that an authorization request carries.  Raises ValueError where it has none, or several."""
    found = parse_qs(urlsplit(url).query).get("state", [])
    if len(found) != 1:
        raise ValueError("it has no state, or several")
    return found[0]


def read_answer(url: str, state: str) -> AuthorizationResponse:
    """The answer in the address that the browser was sent to, or in its query.

    Raises:
        WrongAnswer: it has a parameter twice, another state or none, or neither a code nor an error.
    """
    try:
        answer = AuthorizationResponse.from_url(url)
    except ValueError as error:
        raise WrongAnswer(f"It cannot be read: {error}.") from None
    # Without this check any page could hand in a code of its own, and the user would be logged in as another person.
    # Errors are checked as well, so that no page can end a login.
    if answer.state is None:
        raise WrongAnswer("It has no state, so it may not belong to this login.")
    if not hmac.compare_digest(answer.state.encode("utf-8", "replace"), state.encode()):
        raise WrongAnswer("Its state is another one, so it does not belong to this login.")
    if not answer.code and not answer.error:
        raise WrongAnswer("It has neither a code nor an error.")
    return answer
