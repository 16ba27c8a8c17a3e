# SPDX-License-Identifier: MIT
"""The endpoint inside the server of another project, by ASGI 3.

This folder turns the messages of ASGI into the values that `endpoint/` takes, and its answers into messages again.
Sockets, TLS, HTTP framing and the processes are the other server's.  No rule of MCP may stand here.
"""
