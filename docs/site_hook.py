# SPDX-License-Identifier: MIT
"""mkdocs' hook: pages and examples that lie outside docs/ join the site, and links to other files become plain text.

On a forge, `../SECURITY.md` leads from a page of docs/ to the file in the root.  The site has docs/ alone, so the hook
puts these files below `root/` and turns the links.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", *(f"bench/{p.name}" for p in ROOT.glob("bench/*.md")))
EXAMPLES = tuple(f"examples/{p.name}" for p in ROOT.glob("examples/*.py"))
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/, and a page for each example."""
    for name in OUTSIDE:
        files.append(File.generated(config, f"root/{name}", content=(ROOT / name).read_text("utf-8")))
    for name in EXAMPLES:
        text = f"# {name}\n\n```python\n{(ROOT / name).read_text('utf-8')}```\n"
        files.append(File.generated(config, f"root/{name.removesuffix('.py')}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page from the repository's folders to those of the site."""
    here = page.file.src_uri
    in_repository = here.removeprefix("root/") if here.startswith("root/") else f"docs/{here}"

    def turned(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), path))
        if file.startswith("docs/") and file.endswith(".md"):
            found = file.removeprefix("docs/")
        elif file in OUTSIDE:
            found = f"root/{file}"
        elif file in EXAMPLES:
            found = f"root/{file.removesuffix('.py')}.md"
        else:
            return f"{text} (`{file}`)" if text.strip("`") != file and not image else f"`{file}`"
        relative = posixpath.relpath(found, posixpath.dirname(here) or ".")
        return f"[{text}]({relative}{'#' + anchor if anchor else ''})"

    return _LINK.sub(turned, markdown)
