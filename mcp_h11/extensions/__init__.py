# SPDX-License-Identifier: MIT
"""Extensions of the protocol that this package brings: each is a module, off until a program passes it to its server.

`handler.extension` has the class that they derive from.
"""
