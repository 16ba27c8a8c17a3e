# SPDX-License-Identifier: MIT
"""The version of the package: a literal, which the build reads from here."""

__version__ = "0.1.0"
