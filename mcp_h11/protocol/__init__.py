# SPDX-License-Identifier: MIT
"""The words of MCP as values: errors, revisions, messages, types.

Knows no HTTP, no event loop, no clock and no socket; imports `version` alone from the rest of the package.
"""
