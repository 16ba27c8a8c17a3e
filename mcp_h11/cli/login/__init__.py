# SPDX-License-Identifier: MIT
"""`login` and `logout`: logins at servers that ask for one, kept for all commands and for the bridge.

Nothing here is loaded by other commands.
"""
