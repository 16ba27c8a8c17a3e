# SPDX-License-Identifier: MIT
"""The bridge: a handler that lets another server answer, and the gateway that serves several of them."""
