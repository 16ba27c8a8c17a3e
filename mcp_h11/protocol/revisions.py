# SPDX-License-Identifier: MIT
"""The five published revisions of the protocol as one table of facts.

Rule: each difference between revisions is a field here, and code asks for the fact (`revision.batches`), never for
the date.  No other module compares versions.

"Modern" and "legacy" are the specification's words (2026-07-28 basic/versioning): a modern request describes
itself in `_meta`; a legacy one lives in a session that `initialize` opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Revision:
    """The features of one revision.  Everything is False, or the poorest form, unless the table says otherwise.

    Each attribute is one fact; docs/revisions.md shows them side by side.
    """

    name: str  # the date
    modern: bool = False  # self-describing requests, no handshake, no session
    batches: bool = False  # JSON arrays of messages are accepted
    version_header: bool = False  # clients send MCP-Protocol-Version after initialize
    priming: bool = False  # a stream begins with an empty event that has an id; the server may close it early
    cancel_on_disconnect: bool = False  # a closed response stream cancels the call
    result_type: bool = False  # every result says `resultType`, and carries serverInfo in `_meta`
    cache_hints: bool = False  # `ttlMs` and `cacheScope` on lists and reads
    input_required: bool = False  # questions travel in results, not as requests to the client
    missing_resource: int = -32002  # the error code for a resource that is not there
    titles: bool = False  # `title` and `_meta` on tools, resources, templates, prompts; `title` on Implementation
    icons: bool = False  # `icons`; `description` and `websiteUrl` on Implementation
    tool_annotations: bool = False  # Tool.annotations
    structured: Literal["", "object", "any"] = ""  # outputSchema and structuredContent, and the types they may have
    audio: bool = False  # audio content
    resource_links: bool = False  # resource_link content
    last_modified: bool = False  # annotations.lastModified
    completions_capability: bool = False  # `completions` among the server's capabilities
    progress_message: bool = False  # `message` in notifications/progress
    elicitation: Literal["", "form", "full"] = ""  # "full" adds url mode, multi-select and titled enums
    elicitation_id: bool = False  # url elicitation carries an `elicitationId`
    sampling_tools: bool = False  # `tools` and `toolChoice` in sampling
    task_support: bool = False  # Tool.execution.taskSupport may appear


_A = Revision("2024-11-05")
_B = Revision(
    "2025-03-26",
    batches=True,
    tool_annotations=True,
    audio=True,
    completions_capability=True,
    progress_message=True,
)
_C = Revision(
    "2025-06-18",
    version_header=True,
    tool_annotations=True,
    audio=True,
    completions_capability=True,
    progress_message=True,
    titles=True,
    structured="object",
    resource_links=True,
    last_modified=True,
    elicitation="form",
)
_D = Revision(
    "2025-11-25",
    version_header=True,
    priming=True,
    tool_annotations=True,
    audio=True,
    completions_capability=True,
    progress_message=True,
    titles=True,
    icons=True,
    structured="object",
    resource_links=True,
    last_modified=True,
    elicitation="full",
    elicitation_id=True,
    sampling_tools=True,
    task_support=True,
)
_E = Revision(
    "2026-07-28",
    modern=True,
    version_header=True,
    cancel_on_disconnect=True,
    result_type=True,
    cache_hints=True,
    input_required=True,
    missing_resource=-32602,
    tool_annotations=True,
    audio=True,
    completions_capability=True,
    progress_message=True,
    titles=True,
    icons=True,
    structured="any",
    resource_links=True,
    last_modified=True,
    elicitation="full",
    sampling_tools=True,
)

REVISIONS: dict[str, Revision] = {r.name: r for r in (_A, _B, _C, _D, _E)}
LEGACY: dict[str, Revision] = {n: r for n, r in REVISIONS.items() if not r.modern}
MODERN: dict[str, Revision] = {n: r for n, r in REVISIONS.items() if r.modern}

LATEST_LEGACY = _D
LATEST_MODERN = _E
# 2025-11-25 basic/transports, Protocol Version Header: assume this one where the header is absent and no
# other part of the request tells.
ASSUMED = _B

# Newest first, in -32022 errors and in `server/discover` alike: the suite wants the one to be a subset of the other.
SUPPORTED: tuple[str, ...] = tuple(sorted(REVISIONS, reverse=True))


def negotiate(requested: object) -> Revision:
    """The revision that `initialize` answers: the one asked for if it is legacy, else the newest legacy one.

    2025-11-25 basic/lifecycle, Version Negotiation.  A modern revision is never reached by a handshake.
    """
    return LEGACY.get(requested, LATEST_LEGACY) if isinstance(requested, str) else LATEST_LEGACY
