# SPDX-License-Identifier: MIT
"""An HTTP/1.1 client that knows nothing of MCP: addresses, connections, forward proxies, middleware.

Imports from `http` and `protocol`, and nothing else of `client`.
"""
