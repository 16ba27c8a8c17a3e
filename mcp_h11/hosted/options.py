# SPDX-License-Identifier: MIT
"""The keywords of `asgi` and `MCPServer.asgi`, for type checkers and editors; `server.options` has those of `run`.

Only checkers need these classes, so a running server never loads this module.
"""

from __future__ import annotations

from ..runtime.setting_fields import SettingFields
from ..runtime.settings import Settings


class ASGIOptions(SettingFields, total=False):
    """The keywords of `asgi`."""

    settings: Settings | None
