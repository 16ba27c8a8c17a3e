# SPDX-License-Identifier: MIT
"""A server in a thread, beside a host that owns the main thread: as a plug-in for Blender, IDA, QGIS or Maya.

    python examples/beside_a_host.py

Such a host must be touched on its own thread alone.  `call_in` says how it takes a job: here by a queue that the "host"
empties; in Blender `bpy.app.timers.register`, in IDA `ida_kernwin.execute_sync`, in Qt a queued signal.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

from mcp_h11 import MCPServer, start_in_thread

server = MCPServer("scene")
jobs: queue.Queue[Callable[[], None]] = queue.Queue()
objects: list[str] = []
closed = threading.Event()


# Plain functions run on the host's thread; `async def` functions would run on the server's.
@server.tool
def add_object(name: str) -> str:
    "Add an object to the scene."
    assert threading.current_thread() is threading.main_thread()
    objects.append(name)
    return f"{len(objects)} objects"


@server.tool
def close_host() -> str:
    "Close the program."
    closed.set()
    return "closing"


def main_loop() -> None:
    """The host's own loop, which also runs our jobs."""
    while not closed.is_set():
        try:
            job = jobs.get(timeout=0.1)
        except queue.Empty:
            continue
        job()


if __name__ == "__main__":
    thread = start_in_thread(server, port=int(os.environ.get("PORT", "8000")), call_in=jobs.put)
    print(thread.url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        main_loop()
    thread.stop()
