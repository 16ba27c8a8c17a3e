# SPDX-License-Identifier: MIT
"""The objects that answer: `ServerHandler`, `MCPServer`, and the `Context` of a call.

Knows no transport and no session.
"""
