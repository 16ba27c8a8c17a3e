# SPDX-License-Identifier: MIT
"""The outline of a JSON text: the same text with its long strings emptied.

The checks that come before a parser (depth, long integers, the number of values, members that come twice) ask for what
stands outside of strings.  In a large body most bytes stand inside of a few long ones, and the search for the end of a
string is the fastest of all searches.  So a body is walked once, and each check looks at the short rest.

Rule: the outline differs from the text in nothing but the inside of strings that are longer than any name or escape
that a check could look for.  Where the strings are short or their ends hard to find, the rest of the text stays as it
is: a check then costs more, and answers the same.
"""

from __future__ import annotations

import re

# A shorter text is not worth a walk.
OUTLINED = 4096
# A shorter string stays.  The longest name in an envelope has 42 bytes, all of it escapes.
_LONG_STRING = 256
# A walk goes on while it pays: it begins with this number of strings, each costs one, and each _BYTES_A_STRING of
# progress give one back.  One step costs as much as the checks of this number of bytes.
_STRINGS = 64
_BYTES_A_STRING = 512
# Quotes with a backslash before them are passed by a regular expression, at 25 ns each; with more of them than one in
# _SPARSE bytes of a window, the checks are cheaper than the walk.  Where such a quote may end the string after all, a
# closer look costs as much as _LOOK strings.
_WINDOW = 64 * 1024
_SPARSE = 32
_LOOK = 4
# Of a longer run of backslashes before a quote it is not told whether it is even.
_BACKSLASHES = 32

# A quote that may end a string: no backslash before it, or two.
_may_end = re.compile(rb'"(?:(?<!\\")|(?<=\\\\"))').search


def outline(text: bytes) -> bytes:
    """The text with its long strings emptied, as far as they are cheap to find; the text itself where none is.

    For text that is no JSON it is anything up to the first syntax error, where a parser stops as well.
    """
    find = text.find
    pieces: list[bytes] = []
    kept = at = counted = 0
    left = _STRINGS
    while left > 0:
        opening = find(b'"', at)
        closing = find(b'"', opening + 1)
        if opening < 0 or closing < 0:
            break
        if text[closing - 1] == 0x5C:
            closing, counted, left = _end(text, opening, closing, counted, left)
            if closing < 0:
                break
        if closing - opening > _LONG_STRING:
            pieces.append(text[kept : opening + 1])
            kept = closing
        left += (closing - at) // _BYTES_A_STRING - 1
        at = closing + 1
    if not pieces:
        return text
    pieces.append(text[kept:])
    return b"".join(pieces)


def _end(text: bytes, opening: int, closing: int, counted: int, left: int) -> tuple[int, int, int]:
    """Where the string that begins at `opening` ends, from `closing` on, a quote behind a backslash; -1: not found.

    Up to `counted` the quotes are known to be rare: it is returned as well, so that no byte is counted twice, and what
    is left of the walk.
    """
    while left > 0:
        before = text[max(opening + 1, closing - _BACKSLASHES) : closing]
        run = len(before) - len(before.rstrip(b"\\"))
        if run == _BACKSLASHES:
            break
        if not run & 1:
            return closing, counted, left
        left -= _LOOK
        found = None
        at = closing + 1
        while found is None and at < len(text):
            if at >= counted:
                counted = at + _WINDOW
                if text.count(b'"', at, counted) > _WINDOW // _SPARSE:
                    return -1, counted, left
            found = _may_end(text, at, counted)
            if found is None:
                left += (counted - at) // _BYTES_A_STRING
                at = counted
        if found is None:
            break
        closing = found.start()
        left += (closing - at) // _BYTES_A_STRING
    return -1, counted, left
