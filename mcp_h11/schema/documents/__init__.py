# SPDX-License-Identifier: MIT
"""JSON Schema documents: holding JSON values to them, within a bound of work, and rewriting them for clients.

No Python types here; `schema` makes documents of those.  Imports nothing but the standard library.
"""
