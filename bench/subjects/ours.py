# SPDX-License-Identifier: MIT
"""This library: `ours.py PORT [stateless] [sse] [many] [speed] [orjson] [stdio] [asgi] [granian] [store=URL]`.

Two defaults are set otherwise: a connection is not closed after its thousandth request, and one address may hold more
than a thousand sessions, since all load comes from one.  `store=sqlite` keeps its file in a folder that goes with the
process.
"""

import asyncio
import sys

from counting import server

from mcp_h11 import run


@server.tool(structured_output=False)
async def echo(text: str) -> str:
    "Say it again."
    return text


@server.tool(structured_output=False)
async def sleep(seconds: float) -> str:
    "Wait."
    await asyncio.sleep(seconds)
    return "slept"


for number in range(96):

    async def extra(a: int, b: int) -> int:
        "Another tool, for the list."
        return a + b

    server.tool(name=f"extra_{number}", structured_output=False)(extra)


def application():
    """For servers of ASGI; granian calls it in a process of its own."""
    return server.asgi(max_sessions_peer=None)


def main(port, words):
    options = {"max_requests": None, "max_sessions_peer": None, "stateless": "stateless" in words}
    if "many" in words:  # as many sessions as there are descriptors
        options.update(max_sessions=None, max_connections=None)
    if "sse" in words:
        options["response"] = "sse"
    if "speed" in words or "orjson" in words:
        import orjson

        options["json"] = orjson
    for word in words:
        if word.startswith("store="):
            options["store"] = word[len("store=") :]
    if "stdio" in words:
        from mcp_h11 import run_stdio

        run_stdio(server)
    elif "asgi" in words:
        import uvicorn

        uvicorn.run(application(), port=port, log_level="critical", loop="asyncio", http="h11", ws="none")
    elif "granian" in words:
        from granian import Granian

        Granian("__main__:application", port=port, interface="asgi", factory=True, websockets=False, log_enabled=False,
                backlog=1024).serve()  # fmt: skip
    elif options.get("store") == "sqlite":
        import tempfile  # the memory at start is measured, and this module is 0.9 MiB

        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            run(server, port=port, **{**options, "store": f"sqlite://{folder}/sessions.db"})
    else:
        run(server, port=port, loop="uvloop" if "speed" in words else "asyncio", **options)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
