# SPDX-License-Identifier: MIT
"""The catalogue of a server: its tools, resources, templates and prompts, found by name or URI, listed page by page.

It knows neither how to call a function (`functions`), nor which clients to tell of a change (`mcpserver`).

Rule: entries come and go from any thread while others read, so a loop over them goes over a copy.  Lists are made once
and kept until they change.  The entry that answers a request is found in one way, for its scopes and for its answer.
"""

from __future__ import annotations

import base64
import re
import threading
from bisect import bisect_right
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..http.auth import checked_scopes
from ..protocol.content import StableResult
from ..protocol.errors import InvalidParams, ResourceNotFound
from ..protocol.uris import normal, normal_template
from .functions import Entry, ResourceEntry, ToolEntry
from .handler import ScopeSwitch

E = TypeVar("E", bound=Entry)

_OF_A_RESOURCE = frozenset(("resources/read", "resources/subscribe", "resources/unsubscribe"))
_CURSOR = re.compile(rb"[1-9][0-9]{0,17}")


class Catalogue:
    """The entries of one server.  Tools and prompts may be looked up in their dicts; `find` looks up resources.

    Args:
        page_size: Entries of one page of a list; None puts all on one.

    Raises:
        ValueError: a page of no entries.
    """

    def __init__(self, page_size: int | None = None) -> None:
        if page_size is not None and page_size < 1:
            raise ValueError("page_size is at least 1, or None")
        self.tools: dict[str, ToolEntry] = {}
        self.resources: dict[str, ResourceEntry] = {}  # by their URI as `normal` spells it, as templates are
        self.templates: dict[str, ResourceEntry] = {}
        self.prompts: dict[str, Entry] = {}
        self.scopes = ScopeSwitch(False)  # on as soon as an entry asks for scopes
        self._page_size = page_size
        self._newest = 0  # the number of the newest entry; cursors are made of these numbers
        self._lock = threading.Lock()  # two threads may register at once
        self._pages: dict[tuple[str, int], StableResult] = {}

    def add(self, what: str, entries: dict[str, E], key: str, entry: E, scopes: Sequence[str]) -> None:
        """Put an entry into one of the dicts, from any thread.  Raises ValueError where there is one already."""
        entry.scopes = checked_scopes(scopes, f"the {what} {key!r}")
        with self._lock:
            if key in entries:
                raise ValueError(f"there is a {what} {key!r} already")
            self._newest += 1
            entry.number = self._newest
            if entry.scopes:
                self.scopes.scoped = True
            entries[key] = entry
        self._forget_pages()

    def remove(self, entries: dict[str, E], key: str) -> None:
        """Take an entry out of one of the dicts, from any thread.  Raises KeyError where there is none."""
        # One step of the interpreter, so no lock is needed.
        del entries[key]
        self._forget_pages()

    def find(self, uri: str) -> tuple[ResourceEntry, dict[str, Any]]:
        """The resource of a URI, and its template's variables.  Raises ResourceNotFound."""
        found = self._at(uri)
        if found is None:
            raise ResourceNotFound(uri)
        return found

    def _at(self, uri: str) -> tuple[ResourceEntry, dict[str, Any]] | None:
        uri = normal(uri)
        fixed = self.resources.get(uri)
        if fixed is not None:
            return fixed, {}
        # A copy: another thread may add one meanwhile.
        for template in list(self.templates.values()):
            values = template.match(uri)
            if values is not None:
                return template, values
        return None

    def referred(self, ref: Any) -> Entry:
        """The prompt or the template whose argument is to be completed.  Raises InvalidParams.

        Only `type` decides between the two.  A reference with the name of one and the URI of another is refused: two
        readers of it would see two objects.
        """
        kind = ref.get("type") if isinstance(ref, dict) else None
        if kind not in ("ref/prompt", "ref/resource"):
            raise InvalidParams("ref must be of type ref/prompt or ref/resource")
        name, uri = ref.get("name"), ref.get("uri")
        if name is not None and uri is not None:
            raise InvalidParams("ref must have the name of a prompt or the uri of a resource, not both")
        found: Entry | None
        if kind == "ref/prompt":
            found = self.prompts.get(name) if isinstance(name, str) else None
            if found is None:
                raise InvalidParams(f"Unknown prompt: {name!r:.200}")
            return found
        found = self._resource_named(uri) if isinstance(uri, str) else None
        if found is None:
            raise InvalidParams(f"Unknown resource template: {uri!r:.200}")
        return found

    def _resource_named(self, uri: str) -> Entry | None:
        return self.templates.get(normal_template(uri)) or self.resources.get(normal(uri))

    # --- scopes ----------------------------------------------------------------------------------------------

    def scopes_for(self, method: str, params: Mapping[str, Any]) -> Collection[str]:
        """The scopes that a caller's token needs for a request; none where it names no registered object."""
        return [scope for entry in self._asked_for(method, params) for scope in entry.scopes]

    def _asked_for(self, method: str, params: Mapping[str, Any]) -> Iterable[Entry]:
        """The entries that a request is about, each found in the same way as when the request is answered."""
        if method == "tools/call" or method == "prompts/get":
            named: Mapping[str, Entry] = self.tools if method == "tools/call" else self.prompts
            found = named.get(name) if isinstance(name := params.get("name"), str) else None
            return () if found is None else (found,)
        if method in _OF_A_RESOURCE:
            return self._resources_at([params.get("uri")])
        if method == "subscriptions/listen":
            notifications = params.get("notifications")
            uris = notifications.get("resourceSubscriptions") if isinstance(notifications, dict) else None
            return self._resources_at(uris) if isinstance(uris, list) else ()
        if method == "completion/complete":
            try:
                return (self.referred(params.get("ref")),)
            except InvalidParams:  # the answer to the request will be this error
                return ()
        return ()

    def _resources_at(self, uris: list[Any]) -> Iterator[Entry]:
        for uri in uris:
            found = self._at(uri) if isinstance(uri, str) else None
            if found is not None:
                yield found[0]

    # --- lists -----------------------------------------------------------------------------------------------

    def page(self, kind: str, params: Mapping[str, Any], entries: Mapping[str, Entry]) -> StableResult:
        """The page of a list that the cursor in `params` asks for.  Raises InvalidParams for a cursor
        that this server did not issue."""
        cursor = params.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise InvalidParams("cursor must be a string")
        # Held here, because `_forget_pages` in another thread may replace it: a page of the old list must go into the
        # old dict.
        pages = self._pages
        listed: list[Entry] = []
        start = 0
        if cursor is not None:
            listed = list(entries.values())
            start = bisect_right(listed, self._read_cursor(kind, cursor), key=_number)
        page = pages.get((kind, start))
        if page is None:
            page = pages[(kind, start)] = self._make_page(kind, start, listed or list(entries.values()))
        return page

    def _read_cursor(self, kind: str, cursor: str) -> int:
        try:
            found, _, number = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).partition(b"\n")
        except ValueError:
            found = number = b""
        # server/utilities/pagination, Error Handling: an invalid cursor is -32602.
        issued = self._page_size is not None and found == kind.encode() and _CURSOR.fullmatch(number)
        if not issued or int(number) > self._newest:
            raise InvalidParams("Invalid cursor")
        return int(number)

    def _make_page(self, kind: str, start: int, entries: list[Entry]) -> StableResult:
        stop = len(entries) if self._page_size is None else start + self._page_size
        page = StableResult({kind: [entry.definition for entry in entries[start:stop]]})
        if stop < len(entries):
            page["nextCursor"] = _make_cursor(kind, entries[stop - 1].number)
        return page

    def _forget_pages(self) -> None:
        # A new dict rather than a cleared one: another thread may be reading the old one.
        self._pages = {}


def completable(entry: Entry) -> Container[str] | None:
    """The names of the arguments that a client may complete for an entry; None if it takes arguments of any name."""
    if isinstance(entry, ResourceEntry):
        return entry.template.names if entry.template is not None else ()
    schema = entry.function.signature.input_schema
    return None if schema.get("additionalProperties") is not False else schema["properties"]


def _number(entry: Entry) -> int:
    return entry.number


def _make_cursor(kind: str, number: int) -> str:
    # A cursor has the number of the last entry on the page, and no place in the list: when entries are added or removed
    # between two pages, the next page neither skips nor repeats an entry.
    return base64.urlsafe_b64encode(f"{kind}\n{number}".encode()).decode("ascii")
