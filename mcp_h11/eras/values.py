# SPDX-License-Identifier: MIT
"""What handlers keep in a session: JSON values by key, the same on every worker.

All values of a session are one text, a JSON object, in memory as in a store.  So each reader gets a copy of its own,
the limit is the length of the text, and a change is the replacement of one text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..protocol.codec import StrictJSON, standard_dumps
from ..protocol.errors import ParseError, ToolError
from ..protocol.shown import escaping

logger = escaping(logging.getLogger(__name__))

MAX_SESSION_VALUES = 64 * 1024  # bytes of the values of one session, with their keys, as JSON
# The standard library's, and not the one of the settings: workers with other codecs must read the same value.
_read = StrictJSON().loads

Values = dict[str, Any]
Edit = Callable[[Values], bool]  # changes the values in place; False where it changed nothing


class ValueKeeper:
    """The base of a session: `get`, `set` and `delete` over the two methods that a derived class may replace."""

    __slots__ = ("kept_values",)

    kept_values: bytes  # empty where there are none

    async def get(self, key: str, default: Any = None) -> Any:
        """A copy of the value under a key."""
        return unpacked(await self.load_values()).get(_checked(key), default)

    async def set(self, key: str, value: Any) -> None:
        """Keep a copy of a value."""
        # Copied before the first wait, in which the handler may go on changing its own.
        copy = _copied(value)

        def edit(values: Values) -> bool:
            values[key] = copy
            return True

        _checked(key)
        await self.change_values(edit)

    async def delete(self, key: str) -> None:
        """Forget a key."""
        _checked(key)
        await self.change_values(lambda values: values.pop(key, values) is not values)

    async def load_values(self) -> bytes:
        """The text of all values.  Raises ToolError."""
        return self.kept_values

    async def change_values(self, edit: Edit) -> None:
        """Replace the text by that of the edited values.  Raises ToolError, and ValueError past the limit."""
        values = unpacked(self.kept_values)
        if edit(values):
            before, self.kept_values = self.kept_values, packed(values)
            if not self.weigh_values():
                self.kept_values = before
                raise ToolError("The server keeps as much for this client as its share allows")

    def weigh_values(self) -> bool:
        """Count the memory of `kept_values`; False: it is too much."""
        raise NotImplementedError


def packed(values: Values) -> bytes:
    """The text of all values of a session.  Raises ValueError past the limit."""
    if not values:
        return b""
    text = standard_dumps(values)
    if len(text) > MAX_SESSION_VALUES:
        raise ValueError(
            f"the values of a session have at most {MAX_SESSION_VALUES} bytes as JSON, and these have {len(text)}"
        )
    return text


def unpacked(text: bytes) -> Values:
    """The values of a text.  Raises ToolError for one that cannot be read."""
    if not text:
        return {}
    try:
        values = _read(text)
    except ParseError as exc:
        values = exc
    if not isinstance(values, dict):  # of a newer version, or damaged
        logger.error("the values of a session cannot be read: %s", values if isinstance(values, ParseError) else "")
        raise ToolError("The values that are kept in this session cannot be read")
    return values


def _checked(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of a session is a str, not {type(key).__name__}")
    return key


def _copied(value: Any) -> Any:
    """What `get` will give for a value.  Raises TypeError and ValueError."""
    text = standard_dumps([value])  # one level deeper, as all values are one object
    if len(text) > MAX_SESSION_VALUES:
        raise ValueError(f"a value has at most {MAX_SESSION_VALUES} bytes as JSON, and this one has {len(text)}")
    _check_names(value)
    try:
        return _read(text)[0]
    except ParseError as exc:
        raise ValueError(f"the value could not be read back: {exc}") from None


def _check_names(value: Any) -> None:
    """Refuse a name that JSON would turn into a text: 1 and "1" would be one name afterwards."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            for name in one:
                if not isinstance(name, str):
                    raise TypeError(f"names of members are str in JSON, not {type(name).__name__}")
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
