# SPDX-License-Identifier: MIT
"""HTTP/1.1 as values, both ends.  h11 is imported here and nowhere else.

No event loop, clock or socket.  Imports from `protocol` alone.
"""
