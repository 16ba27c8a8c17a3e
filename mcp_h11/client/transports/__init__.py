# SPDX-License-Identifier: MIT
"""The ways to a server: HTTP, HTTP+SSE, pipes, memory."""
