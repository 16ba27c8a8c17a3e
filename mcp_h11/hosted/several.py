# SPDX-License-Identifier: MIT
"""A word about a server of several processes that share nothing: sessions would be lost by chance, and without a line.

ASGI does not tell an application how many processes there are.  The options and the environment of the server do, where
its command line began it: its worker processes have both.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence

from ..protocol.shown import escaping
from ..runtime.settings import Settings

logger = escaping(logging.getLogger(__name__))

_OPTIONS = ("--workers", "-w")  # of uvicorn, hypercorn, granian and gunicorn
_VARIABLES = ("WEB_CONCURRENCY", "GRANIAN_WORKERS")


def worker_count(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The number of processes that the command line or the environment of the server asks for; 1 where neither does."""
    found = [environ.get(name, "") for name in _VARIABLES]
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name in _OPTIONS:
            found.append(value if equals else following)
    return max([1, *(int(text) for text in found if text.isascii() and text.isdigit() and len(text) < 6)])


def warn_of_workers(settings: Settings) -> None:
    """Log a warning where several processes would each have sessions of their own."""
    count = worker_count(sys.argv, os.environ)
    if count > 1 and settings.store is None and not settings.stateless:
        logger.warning(
            "%d worker processes and no store: a session lives in one of them, and a request that reaches another one"
            " is refused with 404; give the application a store, as in asgi(store='sqlite:///var/lib/tools/sessions.db')",
            count,
        )
