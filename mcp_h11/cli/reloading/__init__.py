# SPDX-License-Identifier: MIT
"""`--reload` and `dev`: the code of a user is served anew when it changes, and sessions go on.

`watch` sees changes, `reload` replaces the worker, `reload_pipes` the child behind a bridge.
"""
