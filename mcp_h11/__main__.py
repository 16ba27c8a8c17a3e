# SPDX-License-Identifier: MIT
"""`python -m mcp_h11`, under whatever name the folder has: see `cli`."""

from __future__ import annotations

from .cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
