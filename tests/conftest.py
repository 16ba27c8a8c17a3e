# SPDX-License-Identifier: MIT
"""The fixture that every test module shares, and the size of a whole run."""

from __future__ import annotations

import os

import pytest
from examples import VARIABLE


def pytest_configure(config: pytest.Config) -> None:
    """A run that leaves out no marker is a whole run: its hypothesis properties try all their examples."""
    if not config.option.markexpr:
        os.environ.setdefault(VARIABLE, "all")


@pytest.fixture
def anyio_backend() -> str:
    """The server's byte path is asyncio's, so its tests are."""
    return "asyncio"
