# SPDX-License-Identifier: MIT
"""Handlers of signals for the time that a server runs; afterwards the program has the handlers that it had before.

It refuses to touch anything outside of the main thread, where Python allows no handlers.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack

END_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a server ends in order at the first, and at once at the second


def handle_signals(
    loop: asyncio.AbstractEventLoop, numbers: Iterable[int], handler: Callable[[], object], stack: ExitStack
) -> None:
    """Call `handler` on the loop at each of these signals, until the stack is closed."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in numbers:
        # `getsignal` is None for a handler that C code installed.  Python cannot restore such a handler.
        stack.callback(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL)
        try:
            loop.add_signal_handler(number, handler)
            stack.callback(loop.remove_signal_handler, number)
        except NotImplementedError:  # Windows: its loops handle no signals
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(handler))
