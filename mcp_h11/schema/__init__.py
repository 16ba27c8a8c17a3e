# SPDX-License-Identifier: MIT
"""Python signatures and JSON Schema, both ways.

No event loop and no HTTP.  Imports from `documents` and `protocol` alone.
"""
