# SPDX-License-Identifier: MIT
"""The two eras of the protocol, sessions and stateless requests, without their carriers: HTTP and pipes."""
