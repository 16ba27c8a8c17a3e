# SPDX-License-Identifier: MIT
"""The two ways of a person to a login: a browser on this machine, and a browser anywhere else.

`LoopbackRedirect` opens the browser and hears of its end on a loopback port (RFC 8252).  `PastedRedirect` prints the
address, and takes the address at which the browser has ended, or the code, from the person.  Both are a `Redirect`, for
`OAuth(redirect=...)`.

Rules:
- Nothing but http and https is opened, and no text with a blank or a control in it.
- A login has an end: an answer, a refusal, or `timeout`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlsplit

import anyio

from ...protocol.shown import escaped
from .answers import WrongAnswer, read_answer, state_of
from .daemons import in_daemon
from .errors import LoginFailed
from .receiver import LOOPBACK, RedirectReceiver
from .redirect import AuthorizationResponse

REDIRECT_PATH = "/callback"
LOGIN_LIMIT = 300.0  # seconds for a person to log in
MAX_WRONG_PASTES = 3
MAX_PASTED = 16 * 1024  # characters
_LOOPBACK_URI = re.compile(rf"http://{re.escape(LOOPBACK)}:([0-9]{{1,5}})(/[^?#]*)")

ShowLines = Callable[[str], None]
OpenBrowser = Callable[[str], object]
AskPerson = Callable[[str], Awaitable["str | None"]]


class LoopbackRedirect:
    """Opens the browser, and listens on a loopback port for its way back.  Give it to `OAuth(redirect=...)`.

    Args:
        port: 0 takes any free port; a number is for a client that is registered with that port alone.
        path: of the redirect_uri.
        timeout: seconds from the opened browser to the answer.
        show: gets the lines for the person, which have the address.  They go to stderr without it.
        open_browser: gets the address, in a thread; `webbrowser.open` without it, where there is a screen.  None opens
            nothing.

    Raises:
        ValueError: the path does not begin with a slash, or has a query.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        path: str = REDIRECT_PATH,
        timeout: float = LOGIN_LIMIT,
        show: ShowLines | None = None,
        open_browser: OpenBrowser | str | None = "webbrowser",
    ) -> None:
        if not path.startswith("/") or urlsplit(path).path != path:
            raise ValueError("the path of a redirect begins with a slash and has no query")
        self._port = port
        self._path = path
        self._timeout = timeout
        self._show = show or show_on_stderr
        self._open = open_browser
        self._receiver: RedirectReceiver | None = None

    async def start(self, known: Sequence[str] = ()) -> str:
        """Begins to listen, and returns the redirect_uri.  Call `authorize` next.

        Args:
            known: the redirect URIs that the client is registered with; the port of one of them is taken again where
                it is free.  RFC 8252 7.3 has servers accept any port, and some compare the whole text.

        Raises:
            LoginFailed: the wanted port, or every port, is taken.
        """
        await self.aclose()
        error: OSError | None = None
        for port, path in [*self._known(known), (self._port, self._path)]:
            receiver = RedirectReceiver(path)
            try:
                await receiver.listen(port)
            except OSError as failed:
                error = failed
                continue
            self._receiver = receiver
            return receiver.url
        raise LoginFailed(f"no answer of a login can be received at {LOOPBACK}:{self._port or 'any port'}: {error}")

    def _known(self, uris: Sequence[str]) -> list[tuple[int, str]]:
        found = [_LOOPBACK_URI.fullmatch(uri) for uri in uris]
        places = [(int(one[1]), one[2]) for one in found if one is not None]
        return [] if self._port else [(port, path) for port, path in places if path == self._path and port < 65_536]

    async def authorize(self, url: str) -> AuthorizationResponse:
        """Opens `url` in the browser, and waits for the answer.  `start` comes before it, `aclose` after it.

        Raises:
            LoginFailed: no answer came in time, or `url` is not one to open.
        """
        receiver, state = self._receiver, checked_state(url)
        if receiver is None:
            raise LoginFailed("a redirect is started before it is used")
        answer = receiver.expect(state)
        outcome: AuthorizationResponse | str = f"no answer of the login came within {self._timeout:g} s"
        with anyio.move_on_after(self._timeout):
            async with anyio.create_task_group() as tasks:
                opens = self._opener()
                self._tell(url, opened=opens is not None)
                if opens is not None:
                    # A browser in the terminal returns when it is left, so the answer comes before that.
                    tasks.start_soon(self._open_in_thread, opens, url)
                outcome = await self._wait(answer)
                tasks.cancel_scope.cancel()
        if isinstance(outcome, str):
            raise LoginFailed(outcome)
        return outcome

    async def _wait(self, answer: Awaitable[AuthorizationResponse]) -> AuthorizationResponse | str:
        """The answer, or why there is none."""
        return await answer

    def _tell(self, url: str, *, opened: bool) -> None:
        if opened:
            self._show(f"Your browser opens to log you in.  If it does not, open this address in it:\n{escaped(url)}")
        else:
            self._show(f"To log in, open this address in a browser of this machine:\n{escaped(url)}")

    def _opener(self) -> OpenBrowser | None:
        if callable(self._open):
            return self._open
        if self._open is None or not has_screen(os.environ):
            return None
        import webbrowser  # it looks for the browsers of this machine, and few programs need one

        return webbrowser.open

    async def _open_in_thread(self, opens: OpenBrowser, url: str) -> None:
        try:
            opened = await in_daemon(opens, url)
        except Exception as error:  # a browser that cannot be opened is no reason to end: the address is there
            self._show(f"The browser could not be opened: {escaped(str(error))}")
            return
        if opened is False:  # as `webbrowser.open` says it
            self._show("The browser could not be opened.")

    async def aclose(self) -> None:
        """Stops listening."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            await receiver.aclose()


class PastedRedirect(LoopbackRedirect):
    """Prints the address for a browser anywhere, and takes a pasted text as the answer.  For `OAuth(redirect=...)`.

    At its end the browser is sent to a loopback address, which it cannot reach from another machine: it shows an error,
    and its address bar has the answer.  The port is held here meanwhile, so that no other program gets a code where the
    browser is on this machine after all; that answer counts as well.

    Args:
        ask: ``async (prompt) -> line``, or None where the person gives up.
        port, path, timeout, show: as in `LoopbackRedirect`.
    """

    def __init__(
        self,
        ask: AskPerson,
        *,
        port: int = 0,
        path: str = REDIRECT_PATH,
        timeout: float = LOGIN_LIMIT,
        show: ShowLines | None = None,
    ) -> None:
        super().__init__(port=port, path=path, timeout=timeout, show=show, open_browser=None)
        self._ask = ask
        self._state = ""

    async def authorize(self, url: str) -> AuthorizationResponse:
        """Prints `url`, and waits for the answer.  Raises LoginFailed, as for `LoopbackRedirect`."""
        self._state = checked_state(url)
        return await super().authorize(url)

    def _tell(self, url: str, *, opened: bool) -> None:
        self._show(
            f"To log in, open this address in any browser:\n{escaped(url)}\n"
            "It ends at a page that cannot be shown; paste the whole address of that page here, or a code that you see."
        )

    async def _wait(self, answer: Awaitable[AuthorizationResponse]) -> AuthorizationResponse | str:
        found: list[AuthorizationResponse | str] = []

        async def first(way: Awaitable[AuthorizationResponse | str]) -> None:
            found.append(await way)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first, answer)
            await first(self._pasted())
        return found[0]

    async def _pasted(self) -> AuthorizationResponse | str:
        for _ in range(MAX_WRONG_PASTES):
            text = await self._ask("Address or code: ")
            if text is None:
                return "the login was given up"
            try:
                return read_pasted(text.strip(), self._state)
            except WrongAnswer as error:
                self._show(str(error))
        return f"{MAX_WRONG_PASTES} pasted texts in a row were no answer to the login"


def read_pasted(text: str, state: str) -> AuthorizationResponse:
    """The answer in an address that a person has pasted, or in a code alone.  Raises WrongAnswer."""
    if not text or len(text) > MAX_PASTED or not text.isascii() or not text.isprintable() or " " in text:
        raise WrongAnswer("This is neither an address nor a code.")
    if "://" in text or text.startswith("?"):
        return read_answer(text, state)
    # The person has brought it from the login that runs here; the state shows the same of an address.
    return AuthorizationResponse(code=text, state=state, iss=None, error=None, error_description=None)


def checked_state(url: str) -> str:
    """The `state` of an address that may be opened.  Raises LoginFailed for any other."""
    # `webbrowser` gives the text to a program, and on Windows to the system, which runs files as well.
    try:
        scheme, state = urlsplit(url).scheme, state_of(url)
    except ValueError as error:
        raise LoginFailed(f"the address of the login cannot be used: {error}") from None
    if scheme not in ("http", "https") or not url.isascii() or not url.isprintable() or set(url) & set(" \"'<>`\\"):
        raise LoginFailed("the address of the login is none that a browser may be given")
    return state


def has_screen(environ: Mapping[str, str], system: str = sys.platform) -> bool:
    """Whether a browser can show itself: elsewhere `webbrowser` may take the terminal for one of text."""
    if system in ("win32", "darwin", "cygwin"):
        return True
    return any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def show_on_stderr(text: str) -> None:
    """Writes lines for the person to stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
