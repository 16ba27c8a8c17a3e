# SPDX-License-Identifier: MIT
"""Answers the questions that a server asks during a call: forms, pages to visit, texts of a model, roots.

An answer comes from the command line (`answers`), or from the person at the terminal, or the question is declined with
a line on stderr that says which option would answer it.  The same callbacks serve both eras.

Rules:
- One question at a time: two could not be told apart on a terminal.
- Nothing is sent, and no page is opened, before the person has seen it and agreed.
- Ctrl+D cancels a question; an answer that is wrong `MAX_WRONG_ANSWERS` times declines it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...protocol.errors import MCPError
from ...protocol.shown import escaped
from ..parser import UsageError
from .answers import ACCEPT, TEXT, Answers
from .form_fields import FormField, fields_of
from .printing import Screen, json_text, line, objects, shortened
from .terminal import Terminal

MAX_WRONG_ANSWERS = 3
MAX_QUESTION_TEXT = 4_000  # characters of one text of a question
MAX_LISTED = 50  # messages of a sampling request that are shown, roots that are typed, fields that are named
MAX_URL = 8_000  # characters; a page is never asked for by a part of its address
# 2025-11-25 client/sampling, Error Handling
REJECTED = -1

_ACCEPT, _DECLINE, _CANCEL = "accept", "decline", "cancel"
_SAMPLING = "asks for the text of a model"
_LEFT_OUT = object()


class _Ended(Exception):
    """The person has ended a question without an answer; the server is told `action`."""

    def __init__(self, action: str, why: str = "") -> None:
        super().__init__(why)
        self.action = action


class Answerer:
    """The callbacks of a `Client` for `on_elicitation`, `on_sampling` and `on_roots`.

    Args:
        decline: decline every question.
        roots: folders that the server may know of: paths, or URIs of files.

    Attributes:
        asker: the name of the server, once it is known.
        modern: whether an answer goes with a new request (2026-07-28), and not to a server that waits for it.
        failed: a value of `--answer` did not fit its question.
    """

    def __init__(
        self, screen: Screen, terminal: Terminal, answers: Answers, *, decline: bool = False, roots: Sequence[str] = ()
    ) -> None:
        self.asker = "the server"
        self.modern = False
        self.failed = False
        self._screen = screen
        self._terminal = terminal
        self._answers = answers
        self._declines = decline
        self._roots = [_root(word) for word in roots]
        self._turn = asyncio.Lock()

    @property
    def _prompts(self) -> bool:
        return self._terminal.is_there and not self._declines

    # --- elicitation ------------------------------------------------------------------------------------------------

    async def elicitation(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answers `elicitation/create`, in both of its modes."""
        async with self._turn:
            try:
                if params.get("mode") == "url":
                    return await self._page(params)
                return {"action": _ACCEPT, "content": await self._form(params)}
            except _Ended as end:
                if str(end):
                    self._screen.say(str(end))
                return {"action": end.action}

    async def _form(self, params: dict[str, Any]) -> dict[str, Any]:
        message = str(params.get("message"))
        try:
            fields = fields_of(params.get("requestedSchema"))
        except ValueError as exc:
            raise self._declined(_asks(message), str(exc)) from None
        given, wrong = self._given(fields or [ACCEPT])
        missing = [f for f in fields or [ACCEPT] if f.required and f.name not in given and f.default is None]
        if given and not missing and not wrong and not self._declines:
            return self._by_answers(message, fields, given)
        if not self._prompts:
            self.failed = self.failed or bool(wrong)
            raise self._declined(_asks(message), "; ".join(wrong) or _how(missing or fields or [ACCEPT]))
        with self._screen.asking():
            self._show(_asks_in_full(message))
            for problem in wrong:
                self._screen.say(problem)
            return await self._typed_form(fields, given) if fields else await self._agreed("Do you agree? [y/N] ")

    def _given(self, fields: Iterable[FormField]) -> tuple[dict[str, Any], list[str]]:
        """The values of `--answer` for these fields, and a line for each that does not fit."""
        given, wrong = {}, []
        for field in fields:
            if self._answers.has(field):
                try:
                    given[field.name] = self._answers.value(field)
                except ValueError as exc:
                    wrong.append(f"--answer {line(field.name)} {exc}")
        return given, wrong

    def _by_answers(self, message: str, fields: list[FormField], given: dict[str, Any]) -> dict[str, Any]:
        if not fields:
            if not given[ACCEPT.name]:
                raise self._declined(_asks(message), "as --answer accept=no says")
            given = {}
        # 2025-11-25 client/elicitation: the default is the value of a field that was left as it is.
        content = {f.name: f.default for f in fields if f.default is not None} | given
        self._screen.say(f"{self.asker} {_asks(message)} - answered: {json_text(content)}")
        return content

    async def _typed_form(self, fields: list[FormField], given: dict[str, Any]) -> dict[str, Any]:
        self._screen.say("(Enter takes the value in [brackets] or leaves a field out, Ctrl+D cancels)")
        content: dict[str, Any] = {}
        for field in fields:
            value = given[field.name] if field.name in given else await self._typed_field(field)
            if value is not _LEFT_OUT:
                content[field.name] = value
        if not await self._yes(f"Send {json_text(content)}? [Y/n] ", empty=True):
            raise _Ended(_DECLINE)
        return content

    async def _typed_field(self, field: FormField) -> Any:
        default = field.default
        said = f" [{field.suggested}]" if default is not None else " (required)" if field.required else ""

        def read(text: str) -> Any:
            if text.strip():
                return field.read(text)
            if default is None and field.required:
                raise ValueError("is required")
            return _LEFT_OUT if default is None else default

        self._screen.say(f"  {field.label}: {field.wanted}{said}")
        return await self._typed("  > ", read, line(field.name))

    async def _typed(self, prompt: str, read: Callable[[str], Any], name: str) -> Any:
        """The result of `read` for a line that is typed; the person is asked again if it raises ValueError."""
        for _ in range(MAX_WRONG_ANSWERS):
            text = await self._terminal.ask(prompt)
            if text is None:
                raise _Ended(_CANCEL, "cancelled")
            try:
                return read(text)
            except ValueError as exc:
                self._screen.say(f"  {name} {exc}")
        raise _Ended(_DECLINE, f"declined: no answer in {MAX_WRONG_ANSWERS} tries")

    async def _yes(self, prompt: str, *, empty: bool) -> bool:
        def read(text: str) -> bool:
            return ACCEPT.read(text) is True if text.strip() else empty

        return bool(await self._typed(prompt, read, "the answer"))

    async def _agreed(self, prompt: str) -> dict[str, Any]:
        if not await self._yes(prompt, empty=False):
            raise _Ended(_DECLINE)
        return {}

    # --- pages ------------------------------------------------------------------------------------------------------

    async def _page(self, params: dict[str, Any]) -> dict[str, Any]:
        message, url = str(params.get("message")), params.get("url")
        try:
            host = _host(url)
        except ValueError as exc:
            raise self._declined(_asks(message), str(exc)) from None
        shown = _asks_in_full(message), f"  {line(url)}", f"  host: {host}"
        given, wrong = self._given([ACCEPT])
        if given and not self._declines:
            if not given[ACCEPT.name]:
                raise self._declined(_asks(message), "as --answer accept=no says")
            self._show(*shown, "  accepted, as --answer accept=yes says; open it yourself")
            return {"action": _ACCEPT}
        if not self._prompts:
            self.failed = self.failed or bool(wrong)
            how = "; ".join(wrong) or _how([ACCEPT])
            raise self._declined(_asks(message), f"it wants a page of {host} to be opened, {line(url)}; {how}")
        with self._screen.asking():
            self._show(*shown)
            await self._consent(str(url))
        return {"action": _ACCEPT}

    async def _consent(self, url: str) -> None:
        def read(text: str) -> str:
            word = text.strip().lower()
            if word not in ("o", "y", "n", ""):
                raise ValueError("has to be o, y or n")
            return word or "n"

        word = await self._typed("Visit it? o opens a browser, y if you open it yourself, [n] declines: ", read, "it")
        if word == "n":
            raise _Ended(_DECLINE)
        if word == "o" and not await _open_browser(url):
            self._screen.say("no browser could be started; open it yourself")
        # A call of 2026-07-28 goes again with the answer, and the page has to be done by then.  A session waits.
        if self.modern and await self._terminal.ask("Press Enter when you are done there; Ctrl+D cancels ") is None:
            raise _Ended(_CANCEL, "cancelled")

    async def visit(self, pages: Any) -> bool:
        """The pages that an error -32042 names (2025-11-25 client/elicitation).  True: call again, they are done."""
        for page in objects(pages)[:MAX_LISTED]:
            answer = await self.elicitation({**page, "mode": "url"})
            if answer["action"] != _ACCEPT:
                return False
        if not self._prompts:
            self._screen.say("call again when the page is done")
            return False
        return await self._terminal.ask("Press Enter when you are done there; Ctrl+D ends ") is not None

    # --- sampling ---------------------------------------------------------------------------------------------------

    async def sampling(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answers `sampling/createMessage`.  Raises MCPError where it is declined."""
        async with self._turn:
            try:
                text = await self._text(params)
            except _Ended as end:
                self._screen.say(str(end))
                raise MCPError(REJECTED, "User rejected sampling request") from None
        content = {"type": "text", "text": text}
        return {"role": "assistant", "content": content, "model": "person", "stopReason": "endTurn"}

    async def _text(self, params: dict[str, Any]) -> str:
        if not self._declines and self._answers.has(TEXT):
            given, wrong = self._given([TEXT])
            if given:
                self._screen.say(f"{self.asker} {_SAMPLING} - answered by --answer text")
                return str(given[TEXT.name])
            self.failed = True
            raise self._declined(_SAMPLING, "; ".join(wrong))
        if not self._prompts:
            last = [_text_of(message.get("content")) for message in objects(params.get("messages"))[-1:]]
            raise self._declined(f"{_SAMPLING}: {shortened(' '.join(last), MAX_QUESTION_TEXT)}", _how([TEXT]))
        with self._screen.asking():
            self._show_sampling(params)
            lines: list[str] = []
            while text := await self._terminal.ask("> "):
                lines.append(text)
            # Ctrl+D after some lines ends the text; before the first one, as an empty line does, there is none.
            if not lines:
                raise _Ended(_DECLINE, "declined")
        return "\n".join(lines)

    def _show_sampling(self, params: dict[str, Any]) -> None:
        texts = [("system", params.get("systemPrompt"))] if params.get("systemPrompt") else []
        messages = objects(params.get("messages"))
        texts += [(str(one.get("role")), _text_of(one.get("content"))) for one in messages[-MAX_LISTED:]]
        self._show(_SAMPLING, *(f"  {shortened(role, 40)}: {_indented(said)}" for role, said in texts))
        limit = params.get("maxTokens")
        tokens = f" (it wants {limit} tokens at most)" if type(limit) is int else ""
        self._screen.say(f"Answer in the place of a model{tokens}.  An empty line ends; nothing at all declines.")

    # --- roots ------------------------------------------------------------------------------------------------------

    async def roots(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answers `roots/list`.  There is no way to decline but to have none."""
        async with self._turn:
            if self._roots and not self._declines:
                return {"roots": self._roots}
            if not self._prompts:
                why = "; --root DIR names one" if not self._declines else ""
                self._screen.say(f"{self.asker} asks for the folders that it may know of - answered: none{why}")
                return {"roots": []}
            with self._screen.asking():
                self._show("asks for the folders that it may know of (roots)", "One a line; an empty line ends.")
                return {"roots": await self._typed_roots()}

    async def _typed_roots(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []

        def read(text: str) -> None:
            try:
                found.append(_root(text.strip()))
            except UsageError as exc:
                raise ValueError(str(exc)) from None

        wrong = 0
        while len(found) < MAX_LISTED and wrong < MAX_WRONG_ANSWERS:
            text = await self._terminal.ask("> ")
            if not text:
                break
            try:
                read(text)
            except ValueError as exc:
                wrong += 1
                self._screen.say(f"  {exc}")
        return found

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _show(self, asks: str, *lines: str) -> None:
        # A person answers the question on the screen, so keys that were pressed before it was shown do not count.
        self._terminal.forget_typed()
        self._screen.say("\n".join([f"{self.asker} {asks}", *lines]))

    def _declined(self, asks: str, why: str) -> _Ended:
        why = "as --decline says" if self._declines else why
        return _Ended(_DECLINE, f"{self.asker} {asks} - declined: {why}")


def _asks(message: str) -> str:
    return f"asks: {shortened(' '.join(message.split()), MAX_QUESTION_TEXT)}"


def _asks_in_full(message: str) -> str:
    return f"asks: {_indented(message)}"


def _how(fields: Sequence[FormField]) -> str:
    """The options that answer a form."""
    names = [f"--answer {shortened(field.name, 100)}={field.example}" for field in fields[:MAX_LISTED]]
    return f"{' '.join(names)} answers it"


def _indented(text: Any) -> str:
    """Text of several lines; each but the first is indented, so that it does not look like a line of this program."""
    said = str(text)
    more = f"... ({len(said) - MAX_QUESTION_TEXT} characters more)" if len(said) > MAX_QUESTION_TEXT else ""
    return escaped(said[:MAX_QUESTION_TEXT], keep="\n").replace("\n", "\n    ") + more


def _text_of(content: Any) -> str:
    blocks = content if isinstance(content, list) else [content]
    return "\n".join(
        block["text"] if isinstance(block.get("text"), str) else f"[{block.get('type')}]" for block in objects(blocks)
    )


def _host(url: Any) -> str:
    """The host of a page, with a warning where it may be another than it looks like.  Raises ValueError."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("it wants something opened that is no address of a page (http, https)")
    if len(url) > MAX_URL:
        raise ValueError(f"the address of its page has {len(url)} characters, and {MAX_URL} are the most")
    warnings = []
    if "@" in parts.netloc:
        warnings.append("what stands before the @ is no part of it")
    # 2025-11-25 client/elicitation, Safe URL Handling: "warnings for ambiguous or suspicious URIs (i.e., containing
    # Punycode)"
    if not host.isascii() or any(label.startswith("xn--") for label in host.split(".")):
        warnings.append(f"its letters may look like others: {ascii(_decoded(host))[1:-1]}")
    if parts.scheme == "http":
        warnings.append("not encrypted")
    return line(host) + (f" (careful: {'; '.join(warnings)})" if warnings else "")


def _decoded(host: str) -> str:
    try:
        return host.encode("ascii").decode("idna")
    except UnicodeError:
        return host


async def _open_browser(url: str) -> bool:
    import webbrowser  # it looks for the browsers of this machine, and few calls need one

    # A browser in the terminal returns when it is left.
    return await asyncio.to_thread(webbrowser.open, url)


def _root(word: str) -> dict[str, str]:
    """A folder as a root.  Raises UsageError where there is none."""
    if word.startswith("file://"):
        return {"uri": word}
    path = Path(word).expanduser().resolve()
    if not path.is_dir():
        raise UsageError(f"{word!r:.200} is no folder")
    return {"uri": path.as_uri(), "name": path.name or str(path)}
