# SPDX-License-Identifier: MIT
"""The least that answers our load: JSON in, JSON out, no sessions and no checks.  The floors use it."""

import json

TOOLS = [
    {
        "name": name,
        "description": "A tool.",
        "inputSchema": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    }
    for name in ("add", "ticks", "echo", "sleep", *(f"extra_{number}" for number in range(96)))
]


def result(id, value):
    return json.dumps({"jsonrpc": "2.0", "id": id, "result": value}).encode()


def text(id, value):
    return result(id, {"content": [{"type": "text", "text": value}]})


def opened(id, params):
    """The answer to `initialize`."""
    info = {"name": "plain", "version": "0"}
    return result(id, {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info})


def respond(body):
    """(status, body), or an iterator of events where the answer is a stream."""
    message = json.loads(body)
    id, method = message.get("id"), message["method"]
    if id is None:
        return 202, b""
    params = message["params"]
    if method == "tools/call":
        name, arguments = params["name"], params["arguments"]
        if name == "add":
            return 200, text(id, str(arguments["a"] + arguments["b"]))
        if name == "echo":
            return 200, text(id, arguments["text"])
        return ticks(id, params["_meta"]["progressToken"], arguments["n"])
    if method == "tools/list":
        return 200, result(id, {"tools": TOOLS})
    return 200, opened(id, params)


def ticks(id, token, count):
    for number in range(1, count + 1):
        params = {"progressToken": token, "progress": number, "total": count}
        event = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        yield b"data: " + event.encode() + b"\n\n"
    yield b"data: " + text(id, "done") + b"\n\n"
