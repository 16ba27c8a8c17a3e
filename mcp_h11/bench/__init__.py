# SPDX-License-Identifier: MIT
"""A load generator for MCP servers: `python -m mcp_h11 bench`, and the scripts in the repository's `bench/`.

It shares no code with the server and the client.  It reads answers by itself, without h11: a generator must cost less
than the servers that it measures, and a mistake of the package's own reader would not show where both ends have it.

`talk` has requests and answers as bytes, `scenarios` the exchanges of one connection, `drive` the connections,
`measuring` one run and its figures, `lines` single questions, `piped` a server on pipes, `process` servers as
processes.
"""
