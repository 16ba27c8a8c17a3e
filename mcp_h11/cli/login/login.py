# SPDX-License-Identifier: MIT
"""`python -m mcp_h11 login [URL]` and `logout URL`: logs a person in, lists the logins, and forgets them.

The steps of a login are `OAuth`'s, and the browser is `LoopbackRedirect`'s.  Tokens are never printed.

Rule: the facts that are printed come from the authorization server, so all of them are escaped.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence

from ...client.oauth.errors import LoginFailed, TokenStoreError
from ...client.oauth.keeper import login_key
from ...client.oauth.loopback import LOGIN_LIMIT
from ...client.oauth.store import Login
from ..asking.ask import PROTOCOL_ERROR
from ..asking.authorizing import person_redirect
from ..asking.interrupts import until_interrupted
from ..asking.printing import Screen, line, out
from ..asking.terminal import Terminal
from ..colours import RED, coloured
from ..logins import CLIENT_SECRET, ClientGiven, oauth_for, store_of_user, stored_login, takes_login
from ..parser import OK, PROG, CommandParser, UsageError

_EPILOG = {
    "login": f"""\
The login is kept for this user alone, and renewed by itself; list, call, proxy
and the others use it.  Without URL the logins are listed.  The secret of a
client is taken from {CLIENT_SECRET}.

examples:
  {PROG} login https://example.com/mcp
  {PROG} login https://example.com/mcp --no-browser --scope mail
""",
    "logout": f"""\
The tokens are forgotten here, and revoked at the authorization server where it
can do that.

examples:
  {PROG} logout https://example.com/mcp
  {PROG} logout --all
""",
}


def parser_of(word: str) -> argparse.ArgumentParser:
    """The parser of one of the two commands."""
    about = {"login": "Log in at a server, or list the logins.", "logout": "Forget a login."}[word]
    parser = CommandParser(prog=f"{PROG} {word}", description=about, epilog=_EPILOG[word], mixed=True)
    parser.add_argument("url", metavar="URL", nargs="?", help="of the server")
    if word == "login":
        parser.add_argument("--scope", action="append", metavar="SCOPE", help="to ask for; repeatable")
        parser.add_argument("--client-id", metavar="ID", help="of a client that you have registered by hand")
        parser.add_argument("--issuer", metavar="URL", help="the authorization server that the ID belongs to")
        about = "of the redirect, where the client is registered with it (any)"
        parser.add_argument("--port", type=_port, default=0, metavar="N", help=about)
        about = "print the address; paste the one that the browser ends at"
        parser.add_argument("--no-browser", action="store_true", help=about)
        about = f"for the person to log in ({LOGIN_LIMIT:g})"
        parser.add_argument("--timeout", type=_seconds, default=LOGIN_LIMIT, metavar="SECONDS", help=about)
    else:
        parser.add_argument("--all", action="store_true", help="forget all logins")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show the log; -vv more of it")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) < 65_536:
        raise argparse.ArgumentTypeError(f"has to be a port from 1 to 65535, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"has to be a number of seconds greater than 0, not {text!r}")
    return value


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run the command and return its exit code.  Raises UsageError."""
    options = parser_of(word).parse_args(arguments)
    level = ("WARNING", "INFO", "DEBUG")[min(options.verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    command = _logout(options) if word == "logout" else _list() if options.url is None else _login(options)
    try:
        return asyncio.run(until_interrupted(command))
    except TokenStoreError as error:
        raise UsageError(str(error)) from None
    except LoginFailed as error:
        screen = Screen(progress=False)
        screen.say(f"{PROG}: {coloured('error:', RED, sys.stderr)} {line(error.message)}")
        return PROTOCOL_ERROR


def _checked(url: str) -> str:
    if not takes_login(url):
        raise UsageError("a login is for a URL with https, or with http on this machine")
    return url


# --- the three commands -----------------------------------------------------------------------------------------------


async def _login(options: argparse.Namespace) -> int:
    url, screen = _checked(options.url), Screen(progress=False)
    store = store_of_user()
    login = await stored_login(store, url)
    scopes = [scope for words in options.scope or () for scope in words.split()]
    client = ClientGiven(options.client_id, os.environ.get(CLIENT_SECRET) or None, options.issuer, scopes or None)
    redirect = person_redirect(
        screen, Terminal(screen), browser=not options.no_browser, port=options.port, timeout=options.timeout
    )
    login = await oauth_for(store, login, redirect=redirect, client=client).login(url)
    out(f"logged in at {line(login_key(url))}")
    for name, value in facts_of(login):
        out(f"  {name}: {value}")
    return OK


async def _list() -> int:
    store = store_of_user()
    keys = await store.keys()
    if not keys:
        Screen(progress=False).say(f"there are no logins; {PROG} login URL makes one")
    for key in keys:
        login = await store.load(key)
        # Another program may have forgotten it meanwhile.
        if login is not None:
            out(line(key))
            for name, value in facts_of(login):
                out(f"  {name}: {value}")
    return OK


async def _logout(options: argparse.Namespace) -> int:
    if (options.url is None) != options.all:
        raise UsageError(f"say which login to forget: {PROG} logout URL, or --all")
    store = store_of_user()
    chosen = await store.keys() if options.all else [login_key(_checked(options.url))]
    for key in chosen:
        login = await store.load(key)
        if login is None:
            there = ", ".join(map(line, await store.keys())) or "none"
            raise UsageError(f"there is no login at {line(key)} (there are: {there})")
        await oauth_for(store, login).logout(key)
        out(f"logged out at {line(key)}")
    if not chosen:
        out("there are no logins")
    return OK


def facts_of(login: Login, now: float | None = None) -> list[tuple[str, str]]:
    """The lines about a login: the person, the issuer, the scopes, the time that is left.  No token is among them."""
    tokens = login.tokens
    if tokens is None:
        return [("issuer", line(login.issuer)), ("state", "registered, but not logged in")]
    facts = [("as", line(login.subject))] if login.subject else []
    facts.append(("issuer", line(login.issuer)))
    if tokens.scope:
        facts.append(("scopes", line(tokens.scope)))
    return [*facts, ("token", _time_of(tokens.expires_at, now, renewed=tokens.refresh_token is not None))]


def _time_of(expires_at: float | None, now: float | None, *, renewed: bool) -> str:
    if expires_at is None:
        return "the server did not say when it ends"
    left = expires_at - (time.time() if now is None else now)
    when = f"ends in {_in_words(left)}" if left > 0 else "has ended"
    return f"{when}, and is renewed by itself" if renewed else f"{when}{'' if left > 0 else '; log in again'}"


def _in_words(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {name}"
    return f"{seconds:.0f} seconds"
