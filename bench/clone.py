# SPDX-License-Identifier: MIT
"""Puts this clone on the path of modules: a script imports it before `mcp_h11`, which is then this clone's.

An installed package would be measured by a generator that is not the one beside the script.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
