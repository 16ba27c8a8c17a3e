# SPDX-License-Identifier: MIT
"""Sockets, pipes, threads and signals, and the pages for operators.

An installed server needs no folder above this one.
"""
