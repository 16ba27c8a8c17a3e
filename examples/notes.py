# SPDX-License-Identifier: MIT
"""Notes: tools that write, resources that clients read, and notices when a note changes.

    python -m mcp_h11 examples/notes.py
    python -m mcp_h11 call http://127.0.0.1:8000/mcp write name=milk text='Buy milk.'
    python -m mcp_h11 read http://127.0.0.1:8000/mcp notes://milk

A client that subscribes to `notes://milk` is told each time when the note is written.
"""

from __future__ import annotations

from typing import Any

from mcp_h11 import MCPServer, resource_link
from mcp_h11.protocol.types import ResourceLink

server = MCPServer("notes", instructions="Short notes of the user, by name.")
NOTES: dict[str, str] = {}


@server.tool
def write(name: str, text: str) -> list[ResourceLink]:
    "Write a note, or write it anew."
    NOTES[name] = text
    server.notify_resource_updated(f"notes://{name}")
    return [resource_link(f"notes://{name}", name)]


@server.resource("notes://{name}", mime_type="text/plain")
def note(name: str) -> str | None:
    "One note."
    return NOTES.get(name)  # None: there is no such resource


@server.resource("notes://", mime_type="application/json")
def names() -> list[str]:
    "The names of all notes."
    return sorted(NOTES)


@server.prompt
def summarize(name: str) -> str:
    "Summarize a note."
    return f"Summarize this note in one sentence:\n\n{NOTES.get(name, '')}"


# While the user types the name of a note, for the resource and for the prompt.
@server.completion
def complete(ref: dict[str, Any], argument: dict[str, str], context: dict[str, Any] | None) -> list[str]:
    return [name for name in sorted(NOTES) if name.startswith(argument["value"])]


if __name__ == "__main__":
    server.run()
