# SPDX-License-Identifier: MIT
"""Makes the description for PyPI of README.md: links into the repository would lead nowhere there.

With `Source` in `[project.urls]` they become absolute, at the tag of the version.  Without it they become plain text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def description(text: str, source: str | None, version: str) -> str:
    """The text of README.md for a page that does not lie beside the other files."""
    if source is None:
        return _RELATIVE.sub(lambda match: f"{match[1]} (`{match[2]}`)", text)
    return _RELATIVE.sub(lambda match: f"[{match[1]}]({source.rstrip('/')}/blob/v{version}/{match[2]})", text)


class DescriptionHook(MetadataHookInterface):
    """The hook that `[tool.hatch.metadata.hooks.custom]` names."""

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        version = re.search(r'"(.+)"', (root / "mcp_h11" / "version.py").read_text("utf-8").split("__version__")[1])
        assert version is not None
        text = description((root / "README.md").read_text("utf-8"), metadata.get("urls", {}).get("Source"), version[1])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
