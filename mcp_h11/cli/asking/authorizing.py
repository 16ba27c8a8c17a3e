# SPDX-License-Identifier: MIT
"""A login that a command needs: the stored one is used, and at a terminal the person is asked for a new one.

Where a program reads the output no login begins: the error says by which command a person can log in.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from ...client.oauth.loopback import LOGIN_LIMIT, LoopbackRedirect, PastedRedirect, has_screen
from ...client.oauth.oauth import OAuth
from ..logins import oauth_for, store_of_user, stored_login, takes_login
from .printing import Screen, on_terminal
from .terminal import Terminal


class LoginInUse(NamedTuple):
    """The OAuth of one command, and whether a login was there before it."""

    oauth: OAuth
    stored: bool


def person_redirect(
    screen: Screen, terminal: Terminal, *, browser: bool = True, port: int = 0, timeout: float = LOGIN_LIMIT
) -> LoopbackRedirect:
    """The way of the person at this terminal to a login: the browser of this machine, or a pasted address."""
    if browser and has_screen(os.environ):
        return LoopbackRedirect(port=port, timeout=timeout, show=screen.say)

    async def ask(prompt: str) -> str | None:
        with screen.asking():
            return await terminal.ask(prompt)

    return PastedRedirect(ask, port=port, timeout=timeout, show=screen.say)


async def login_in_use(url: str, screen: Screen, terminal: Terminal) -> LoginInUse | None:
    """The login for a command that asks `url`; None where nothing is stored and no person is there.

    Raises:
        UsageError: the stored login cannot be read.
    """
    if not takes_login(url):
        return None
    store = store_of_user()
    login = await stored_login(store, url)
    if terminal.is_there and on_terminal(sys.stdout):
        return LoginInUse(oauth_for(store, login, redirect=person_redirect(screen, terminal)), login is not None)
    return None if login is None else LoginInUse(oauth_for(store, login), True)
