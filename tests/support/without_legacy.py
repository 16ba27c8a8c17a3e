# SPDX-License-Identifier: MIT
"""A pytest plugin: the package without its legacy era, whose modules are replaced by stand-ins that serve nothing.

    python -m pytest -p without_legacy tests/eras/test_modern.py -k "not legacy"

`endpoint` and `stdio` name both eras, so the names have to be there; whatever would do something raises.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from two_eras import LEGACY_ERA


class Nothing:
    """An era that has no sessions and never gets a request."""

    def __init__(self, *args: Any) -> None:
        self.sessions: dict[str, Any] = {}

    def sweep(self) -> None: ...
    def end_idle_streams(self) -> None: ...
    def close(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the legacy era was asked for {name}")


for _name in LEGACY_ERA:
    assert f"mcp_h11.{_name}" not in sys.modules, "too late: the era is loaded"
    _module = ModuleType(f"mcp_h11.{_name}")
    for _word in ("Legacy", "LegacySSE", "Batched", "ChannelCall", "ChannelSession", "BatchAnswers", "encode_notice"):
        setattr(_module, _word, Nothing)
    sys.modules[_module.__name__] = _module
