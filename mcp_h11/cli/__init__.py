# SPDX-License-Identifier: MIT
"""The command line: serve a handler, ask a server, or bridge to one."""
