# SPDX-License-Identifier: MIT
"""The skills of a server, as a host may use them: each file is checked against the entry of its skill when it is read.

    async with Client(url) as client:
        for entry in await list_skills(client):
            text = await read_skill(client, entry)

It reads no file ahead of need, and approves nothing: a digest shows that a file is the one of the entry, and not that
either of them is to be trusted.

Follows ext-skills, `specification/stable/skills.mdx`, as of 2026-09-18 (SEP-2640): Integrity and Verification.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from ..extensions.frontmatter import FrontMatterError, front_matter
from ..extensions.skill_folder import MAX_SKILL_BYTES, MAX_SKILL_FILES, SKILL_FILE
from ..protocol.uris import normal
from .client import Client
from .named_requests import AS_CONFIGURED
from .transports.errors import InvalidAnswer

SkillEntry = Mapping[str, Any]


async def list_skills(client: Client) -> list[dict[str, Any]]:
    """The entries of all skills that the server of `client` lists; `get_skill` finds others, by their URIs.

    Raises MCPError: the server's error, or InvalidAnswer for an entry that is malformed or larger than a host takes.
    """
    entries = await client._all_pages("skills/list", "skills", AS_CONFIGURED)
    for entry in entries:
        _check(entry)
    return entries


async def get_skill(client: Client, uri: str) -> dict[str, Any]:
    """The entry of the skill with the SKILL.md at `uri`, asked of the server of `client` now.

    Read its files by `read_skill` and `read_skill_file`.  Raises as `list_skills`.
    """
    entry: Any = (await client.request("skills/get", {"uri": uri}, safe=True)).get("skill")
    _check(entry)
    if normal(entry["uri"]) != normal(uri):
        raise InvalidAnswer(f"skills/get of {uri:.200} was answered with another skill")
    return dict(entry)


async def read_skill(client: Client, entry: SkillEntry) -> str:
    """The SKILL.md of an `entry` of `list_skills` or `get_skill`, read from the server of `client`, and checked.

    Raises InvalidAnswer where it is not the one that the entry describes.
    """
    data = await read_skill_file(client, entry, entry["uri"])
    try:
        text = data.decode("utf-8")
        found = front_matter(text)
    except (UnicodeDecodeError, FrontMatterError) as error:
        raise InvalidAnswer(f"{entry['uri']} has no front matter that can be compared: {error}") from None
    if found != entry["frontmatter"]:
        raise InvalidAnswer(f"the front matter of {entry['uri']} differs from that of the skill's entry")
    return text


async def read_skill_file(client: Client, entry: SkillEntry, uri: str) -> bytes:
    """The file at `uri` of the skill with this `entry`, read from the server of `client`, and checked.

    Raises InvalidAnswer for a file that the entry does not list, or with another size or digest.  `get_skill` has the
    new entry of a skill that changed.
    """
    resources = entry["resources"]
    listed = None
    if resources != "dynamic":
        listed = next((one for one in resources if normal(one["uri"]) == normal(uri)), None)
        if listed is None:
            raise InvalidAnswer(f"{uri:.200} is no file of the skill {entry['uri']}")
    contents = (await client.request("resources/read", {"uri": uri})).get("contents")
    if not isinstance(contents, list) or len(contents) != 1 or not isinstance(contents[0], dict):
        raise InvalidAnswer(f"{uri:.200} was not answered with one content, and a file is one")
    data = _bytes_of(contents[0], uri)
    if listed is None:
        if len(data) > MAX_SKILL_BYTES:
            raise InvalidAnswer(f"{uri:.200} has more than {MAX_SKILL_BYTES} bytes")
        return data
    if len(data) != listed["size"]:
        raise InvalidAnswer(f"{uri:.200} has {len(data)} bytes, and its skill's entry says {listed['size']}")
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != listed["digest"]:
        raise InvalidAnswer(f"{uri:.200} has another digest than the entry of its skill says")
    return data


def _bytes_of(contents: Mapping[str, Any], uri: str) -> bytes:
    text, blob = contents.get("text"), contents.get("blob")
    try:
        if isinstance(text, str):
            return text.encode("utf-8")
        if isinstance(blob, str):
            return base64.b64decode(blob, validate=True)
    except ValueError:
        pass
    raise InvalidAnswer(f"{uri:.200} was answered with neither a text nor bytes")


def _check(entry: Any) -> None:
    """SEP-2640, Skill Entries and Limits.  Raises InvalidAnswer."""
    uri = entry.get("uri") if isinstance(entry, dict) else None
    if not isinstance(uri, str) or not uri.endswith(f"/{SKILL_FILE}"):
        raise InvalidAnswer(f"a skill's entry has the URI of a {SKILL_FILE}, not {str(uri):.200}")
    front, resources = entry.get("frontmatter"), entry.get("resources")
    if not isinstance(front, dict) or not all(isinstance(front.get(key), str) for key in ("name", "description")):
        raise InvalidAnswer(f"the entry of {uri:.200} has no front matter with a name and a description")
    root = uri.removesuffix(SKILL_FILE)
    if root.rstrip("/").rpartition("/")[2] != front["name"]:
        raise InvalidAnswer(f"the name of the skill at {uri:.200} is not that of its folder")
    if resources == "dynamic":
        return
    sound = isinstance(resources, list) and all(_is_resource(one, root) for one in resources)
    uris = [one["uri"] for one in resources] if sound else []
    if uri not in uris or len(set(uris)) < len(uris):
        raise InvalidAnswer(f"the entry of {uri:.200} lists its files wrongly")
    if len(resources) > MAX_SKILL_FILES or sum(one["size"] for one in resources) > MAX_SKILL_BYTES:
        raise InvalidAnswer(f"the skill at {uri:.200} has more than {MAX_SKILL_FILES} files or {MAX_SKILL_BYTES} bytes")


def _is_resource(one: Any, root: str) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("uri"), str)
        and one["uri"].startswith(root)
        and isinstance(one.get("digest"), str)
        and type(one.get("size")) is int
        and one["size"] >= 0
    )
