# SPDX-License-Identifier: MIT
"""A client of any revision: it finds the transport and the era of a server, and follows it when they change.

`conversation` carries the messages, `transports` the bytes.
"""
