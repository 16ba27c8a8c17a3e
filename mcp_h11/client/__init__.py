# SPDX-License-Identifier: MIT
"""A client of any revision."""
