# SPDX-License-Identifier: MIT
"""The ways to a server: Streamable HTTP, HTTP+SSE, pipes, memory.

They carry messages and match no answer to its call; `client` does.  Imports from `client.http`, and nothing else above
the server's folders.
"""
