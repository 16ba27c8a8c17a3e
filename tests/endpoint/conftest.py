# SPDX-License-Identifier: MIT
"""The fixture of the tests of fleets in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fleets import Stores


@pytest.fixture(params=["memory", "sqlite", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """One store for all workers of a fleet, of each kind."""
    from fleets import stores_of  # most tests of this folder need no store

    return stores_of(request, tmp_path)
