# SPDX-License-Identifier: MIT
"""Reads a list of the server to its end: all pages, within one budget for the whole walk.

It refuses lists without end.  A server could answer each page quickly, and each time with another cursor: then the
number of pages, the number of entries, the memory or the time runs out, and the walk raises an error.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ..protocol.jsonrpc import JSON
from .conversation.conversation import MAX_PAGES
from .transports.errors import InvalidAnswer, RequestTimeout

# Entries of one list, over all of its pages.
MAX_ITEMS = 100_000
# Bytes of memory that the pages of one list may take together.
MAX_LIST_SIZE = 64 * 1024 * 1024
# Bytes that one JSON value takes in memory beside its text: the head of a Python object, and its place in a container.
VALUE_SIZE = 64

# Sends one request: method, params, seconds.
SendRequest = Callable[[str, dict[str, Any], "float | None"], Awaitable[dict[str, Any]]]


async def all_pages(send: SendRequest, json: JSON, method: str, member: str, seconds: float | None) -> list[Any]:
    """The entries of all pages, in the order of the server.

    Args:
        method: of the request, such as "tools/list".
        member: of the result that holds the entries, such as "tools".
        seconds: for all pages together; None for no limit.

    Raises:
        InvalidAnswer: there are too many pages or entries, or they take too much memory.
        RequestTimeout: the pages did not all come in time.
        MCPError: the server answered a page with an error.
    """
    found: list[Any] = []
    params: dict[str, Any] = {}
    size = 0
    end = math.inf if seconds is None else anyio.current_time() + seconds
    for _ in range(MAX_PAGES):
        result = await _page(send, method, params, seconds, end)
        items = result.get(member)
        if not isinstance(items, list):
            raise InvalidAnswer(f"{method} was answered without {member}")
        # 2026-07-28 server/utilities/pagination: "an empty string is a valid cursor".  Only a missing cursor is the
        # end of the list; some serialisers write null for it.
        cursor = result.get("nextCursor")
        found += items
        if len(found) > MAX_ITEMS:
            raise InvalidAnswer(f"{method} has more than {MAX_ITEMS} entries")
        # A list of one page is bounded by the size of one answer, so measuring it would cost time for nothing.
        if cursor is not None or size:
            size += memory_of(json, result)
        if size > MAX_LIST_SIZE:
            raise InvalidAnswer(f"the pages of {method} take more than {MAX_LIST_SIZE} bytes together")
        if cursor is None:
            return found
        params = {"cursor": cursor}
    raise InvalidAnswer(f"{method} has more than {MAX_PAGES} pages")


async def _page(
    send: SendRequest, method: str, params: dict[str, Any], seconds: float | None, end: float
) -> dict[str, Any]:
    if seconds is None:
        return await send(method, params, None)
    late = f"no answer to {method} within {seconds:g} s"
    left = end - anyio.current_time()
    if left <= 0:
        raise RequestTimeout(f"{late}, all pages together")
    try:
        return await send(method, params, left)
    except RequestTimeout:
        if not params:
            raise
        # The error of the page would name the seconds that were left, which the user never set.
        raise RequestTimeout(f"{late}, all pages together") from None


def memory_of(json: JSON, result: dict[str, Any]) -> int:
    """Roughly the bytes that a page takes in memory: its text, and one object for each value in it."""
    text = json.dumps(result)
    # Each of these characters begins or separates values.  Those inside of strings are counted too: the estimate may
    # be too high, and is never too low.
    return len(text) + VALUE_SIZE * sum(map(text.count, (b",", b":", b"[", b"{")))
