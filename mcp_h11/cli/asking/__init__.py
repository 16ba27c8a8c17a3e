# SPDX-License-Identifier: MIT
"""The commands that ask a server: `list`, `call`, `read`, `prompt`, `ping`, `detect`.

Their output, the questions that a server asks back, files, and the trace of `--verbose`.  `ask` is the command.
"""
