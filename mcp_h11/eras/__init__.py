# SPDX-License-Identifier: MIT
"""The two eras of the protocol, sessions and stateless requests, whatever carries them."""
