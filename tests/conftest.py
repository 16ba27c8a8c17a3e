# SPDX-License-Identifier: MIT
"""What every test module shares."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The server's byte path is asyncio's, so its tests are."""
    return "asyncio"
