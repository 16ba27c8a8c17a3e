# SPDX-License-Identifier: MIT
"""`install`: a server is written into the configuration file of a client.

No byte of the file changes but those of the entry.  `install` is the command, `clients` knows the files.
"""
