# SPDX-License-Identifier: MIT
"""Colours, for a person at a terminal alone.

NO_COLOR (no-color.org) and TERM=dumb switch them off.  A pipe, a file and a log never get them.
"""

from __future__ import annotations

import os
from typing import Any

BOLD, RED, GREEN, YELLOW = "1", "1;31", "1;32", "1;33"  # ECMA-48, section 8.3.117, SGR


def shows_colours(stream: Any) -> bool:
    """Whether the reader of this stream sees colours."""
    if stream is None or not stream.isatty() or os.environ.get("NO_COLOR"):
        return False
    # A console of Windows shows them where Windows Terminal started it; an older one prints the codes.
    return bool(os.environ.get("WT_SESSION")) if os.name == "nt" else os.environ.get("TERM", "dumb") != "dumb"


def coloured(text: str, code: str, stream: Any) -> str:
    """The text in this colour, where the stream shows any."""
    return f"\x1b[{code}m{text}\x1b[0m" if shows_colours(stream) else text
