# SPDX-License-Identifier: MIT
"""All that one running server owns: settings, stores, tasks, threads, fair shares, metrics.

Knows no protocol revision.
"""
