# SPDX-License-Identifier: MIT
"""The errors of logins and of the places that keep them.

Rule: no error quotes a token, a code, a secret or the query of an address.
"""

from __future__ import annotations

from ..transports.errors import LoginFailed as LoginFailed


class TokenStoreError(Exception):
    """A token store cannot be read or written.  The text says how to mend it, and holds no secret."""
