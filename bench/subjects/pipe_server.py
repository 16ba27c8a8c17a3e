# SPDX-License-Identifier: MIT
"""The least that answers our load on stdin and stdout: the one server that every bridge has behind it.

The standard library alone, no checks, one message after the other: what a bridge costs must not drown in it.
"""

import json
import sys

from plain import TOOLS


def result_of(method, params):
    if method == "tools/call":
        arguments = params["arguments"]
        text = str(arguments["a"] + arguments["b"]) if params["name"] == "add" else arguments["text"]
        return {"content": [{"type": "text", "text": text}]}
    if method == "tools/list":
        return {"tools": TOOLS[:4]}
    if method == "ping":
        return {}
    if method == "initialize":
        version = params["protocolVersion"]
        return {
            "protocolVersion": version if version < "2026" else "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "pipe", "version": "1"},
        }
    return None


for line in sys.stdin.buffer:
    message = json.loads(line)
    if "id" in message and "method" in message:
        found = result_of(message["method"], message.get("params"))
        told = {"error": {"code": -32601, "message": "Method not found"}} if found is None else {"result": found}
        sys.stdout.buffer.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **told}).encode() + b"\n")
        sys.stdout.buffer.flush()
