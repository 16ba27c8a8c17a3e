# SPDX-License-Identifier: MIT
"""The command `bench`: its options, the server that is measured, and the figures as a person or a program reads them.

The load generator itself is the folder `bench/` of the package.
"""
