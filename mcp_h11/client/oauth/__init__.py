# SPDX-License-Identifier: MIT
"""OAuth of a client: logs in at the authorization server of an MCP server, keeps the tokens, and renews them.

Nothing here is loaded by a server, or by a client without `auth=OAuth(...)`.
"""
