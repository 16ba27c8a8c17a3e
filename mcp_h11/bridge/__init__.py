# SPDX-License-Identifier: MIT
"""A handler whose answers come from another server, and several of them behind one listener."""
