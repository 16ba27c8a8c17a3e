# SPDX-License-Identifier: MIT
"""Stores that several workers share: records, event logs, inboxes and a bus, in memory, in SQLite or in Redis.

A store moves bytes.  It knows no session, no message and no HTTP: `runtime.fleet` gives the bytes their meaning.
"""
