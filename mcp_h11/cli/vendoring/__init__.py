# SPDX-License-Identifier: MIT
"""`vendor`: copies of the package for another program, and one file that runs with a bare Python.

Only the standard library is used here, and nothing of a server.  `vendor` is the command.
"""
