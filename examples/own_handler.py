# SPDX-License-Identifier: MIT
"""A handler of your own, where tools are not functions: each row of a database is a resource.

    python -m mcp_h11 examples/own_handler.py
    python -m mcp_h11 read http://127.0.0.1:8000/mcp rows://3

The server never holds the list: it reads a page at a time, and the cursor says where the next one begins.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from mcp_h11 import Context, InvalidParams, ResourceNotFound, ServerHandler, run

PAGE = 10


class Table(ServerHandler):
    """Serves the rows of one table.  The capabilities follow from the methods that are here."""

    name = "table"
    instructions = "Each row of the table is a resource: rows://1, rows://2, ..."

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    async def list_resources(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        cursor = params.get("cursor") or "0"
        if not isinstance(cursor, str) or not cursor.isdecimal():
            raise InvalidParams("Invalid cursor")
        query = "select id, title from rows where id > ? order by id limit ?"
        rows = self.database.execute(query, (int(cursor), PAGE + 1)).fetchall()
        page: dict[str, Any] = {"resources": [{"uri": f"rows://{row}", "name": title} for row, title in rows[:PAGE]]}
        if len(rows) > PAGE:
            page["nextCursor"] = str(rows[PAGE - 1][0])
        return page

    async def read_resource(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        uri = str(params.get("uri"))
        row = self.database.execute("select id, title from rows where 'rows://' || id = ?", (uri,)).fetchone()
        if row is None:
            raise ResourceNotFound(uri)
        text = json.dumps({"id": row[0], "title": row[1]})
        return {"contents": [{"uri": uri, "mimeType": "application/json", "text": text}]}


def example_rows() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("create table rows (id integer primary key, title text)")
    database.executemany("insert into rows (title) values (?)", [(f"row {number}",) for number in range(1, 26)])
    return database


server = Table(example_rows())

if __name__ == "__main__":
    run(server)
