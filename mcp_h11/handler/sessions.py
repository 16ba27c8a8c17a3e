# SPDX-License-Identifier: MIT
"""`ServerSession`: what `ctx.session` is to a handler.

The floor of the handlers declares it; the sessions of the revisions up to 2025-11-25 fill it in.
"""

from __future__ import annotations

from typing import Any, Protocol


class ServerSession(Protocol):
    """The session that a call belongs to.  Get it from `ctx.session`, which is None where a client has no session.

    Keep here what the next call of the same client needs: a global variable is one process's, and the next call may
    come to another worker.  Values are JSON, and are there on every worker that shares a store.  They end with the
    session.  All values of one session, with their keys, are at most 64 KiB as JSON.

        visits = await ctx.session.get("visits", 0)
        await ctx.session.set("visits", visits + 1)

    Each method is one step: two calls that set different keys at once lose nothing.  The two lines above are two steps,
    so two calls at once can count as one.

    In a tool, each error below ends as a result with `isError` and the text of the error, unless the tool catches it.
    """

    data: dict[str, Any]  # any objects, on this worker alone: for a connection or a cache that can be made again

    @property
    def id(self) -> str:
        """The id of the session; empty on stdin and stdout, where there is one session."""

    async def get(self, key: str, default: Any = None) -> Any:
        """A copy of the value under a key; `default` where there is none.

        Raises:
            ToolError: the store of the workers is away, or the session has ended.
        """

    async def set(self, key: str, value: Any) -> None:
        """Keep a copy of a value: dict with str keys, list, str, int, float, bool and None; a tuple comes back as list.

        Raises:
            TypeError: the key is no str, or JSON has no form for the value.
            ValueError: NaN or infinity, a value that is nested too deeply, or more than 64 KiB in the session.
            ToolError: as `get`, or the client keeps as much on this server as its share allows.
        """

    async def delete(self, key: str) -> None:
        """Forget a key; does nothing where there is none.  Raises what `get` raises."""
