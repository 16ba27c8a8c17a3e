# SPDX-License-Identifier: MIT
"""The objects that handlers take and return, as TypedDicts of the specification, for annotations.

`content` has constructors for the common ones.  Nothing here validates or converts; `downgrade` removes the members
that an older revision does not have.

Rule: the module is loaded only for a program that names a type: a running server does not need it, and each type costs
4 KiB.

Objects follow schema/2026-07-28; members that only an earlier revision has say so.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Union

Role = Literal["user", "assistant"]
LoggingLevel = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
Meta = dict[str, Any]
JSONSchema = dict[str, Any]

# `Required` is newer than Python 3.10, hence a total base class for each object with optional members.


class _Icon(TypedDict):
    src: str


class Icon(_Icon, total=False):
    """A picture for a server, tool, resource or prompt: `src` is an https: or data: URI."""

    mimeType: str
    sizes: list[str]
    theme: Literal["light", "dark"]


class _Implementation(TypedDict):
    name: str
    version: str


class Implementation(_Implementation, total=False):
    """The name and version of a client or a server."""

    title: str
    description: str
    websiteUrl: str
    icons: list[Icon]


class Annotations(TypedDict, total=False):
    """Hints on content and resources; `priority` is 0 to 1, `lastModified` an ISO 8601 time."""

    audience: list[Role]
    priority: float
    lastModified: str


class _Described(TypedDict, total=False):
    annotations: Annotations
    _meta: Meta


# --- content -------------------------------------------------------------------------------------------------


class _TextContent(TypedDict):
    type: Literal["text"]
    text: str


class TextContent(_TextContent, _Described, total=False):
    """Text; make one with `text()`."""


class _ImageContent(TypedDict):
    type: Literal["image"]
    data: str
    mimeType: str


class ImageContent(_ImageContent, _Described, total=False):
    """A picture, `data` in base64; make one with `image()` or return an `Image`."""


class _AudioContent(TypedDict):
    type: Literal["audio"]
    data: str
    mimeType: str


class AudioContent(_AudioContent, _Described, total=False):
    """Sound, `data` in base64; make one with `audio()` or return an `Audio`."""


class _Resource(TypedDict):
    uri: str
    name: str


class Resource(_Resource, total=False):
    """An entry of resources/list; `size` in bytes before any encoding."""

    title: str
    description: str
    mimeType: str
    size: int
    icons: list[Icon]
    annotations: Annotations
    _meta: Meta


class _ResourceLinkType(TypedDict):
    type: Literal["resource_link"]


class ResourceLink(_ResourceLinkType, Resource, total=False):
    """A resource that the client may read; make one with `resource_link()`."""


class _ResourceContents(TypedDict):
    uri: str


class ResourceContents(_ResourceContents, total=False):
    """One entry of a resources/read result: exactly one of `text` and `blob` (base64)."""

    mimeType: str
    text: str
    blob: str
    _meta: Meta


class _EmbeddedResource(TypedDict):
    type: Literal["resource"]
    resource: ResourceContents


class EmbeddedResource(_EmbeddedResource, _Described, total=False):
    """A resource with its contents; make one with `embedded()`."""


# Union and not `|`: a TypedDict is no type to `|` on Python 3.10.
ContentBlock = Union[TextContent, ImageContent, AudioContent, ResourceLink, EmbeddedResource]  # noqa: UP007


class _ToolUseContent(TypedDict):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ToolUseContent(_ToolUseContent, total=False):
    """Sampling only: the model wants a tool called."""

    _meta: Meta


class _ToolResultContent(TypedDict):
    type: Literal["tool_result"]
    toolUseId: str
    content: list[ContentBlock]


class ToolResultContent(_ToolResultContent, total=False):
    """Sampling only: the result of the tool call with the same id."""

    structuredContent: Any
    isError: bool
    _meta: Meta


# --- tools, prompts, resources -------------------------------------------------------------------------------


class ToolAnnotations(TypedDict, total=False):
    """Hints about a tool's behaviour; a client must not trust them."""

    title: str
    readOnlyHint: bool
    destructiveHint: bool
    idempotentHint: bool
    openWorldHint: bool


class ToolExecution(TypedDict, total=False):
    """2025-11-25 only."""

    taskSupport: Literal["forbidden", "optional", "required"]


class _Tool(TypedDict):
    name: str
    inputSchema: JSONSchema


class Tool(_Tool, total=False):
    """An entry of tools/list."""

    title: str
    description: str
    outputSchema: JSONSchema
    annotations: ToolAnnotations
    icons: list[Icon]
    execution: ToolExecution
    _meta: Meta


class _CallToolResult(TypedDict):
    content: list[ContentBlock]


class CallToolResult(_CallToolResult, total=False):
    """The result of tools/call; a failure that the model should see has `isError`."""

    structuredContent: Any
    isError: bool
    _meta: Meta


class _ResourceTemplate(TypedDict):
    uriTemplate: str
    name: str


class ResourceTemplate(_ResourceTemplate, total=False):
    """An entry of resources/templates/list; `uriTemplate` as in RFC 6570."""

    title: str
    description: str
    mimeType: str
    icons: list[Icon]
    annotations: Annotations
    _meta: Meta


class _ReadResourceResult(TypedDict):
    contents: list[ResourceContents]


class ReadResourceResult(_ReadResourceResult, total=False):
    """The result of resources/read; `ttlMs` in milliseconds."""

    ttlMs: int
    cacheScope: Literal["public", "private"]
    _meta: Meta


class _PromptArgument(TypedDict):
    name: str


class PromptArgument(_PromptArgument, total=False):
    """One argument of a prompt; its values are strings."""

    title: str
    description: str
    required: bool


class _Prompt(TypedDict):
    name: str


class Prompt(_Prompt, total=False):
    """An entry of prompts/list."""

    title: str
    description: str
    arguments: list[PromptArgument]
    icons: list[Icon]
    _meta: Meta


class PromptMessage(TypedDict):
    """One message of a prompt; make one with `user()` or `assistant()`."""

    role: Role
    content: ContentBlock


class _GetPromptResult(TypedDict):
    messages: list[PromptMessage]


class GetPromptResult(_GetPromptResult, total=False):
    """The result of prompts/get."""

    description: str
    _meta: Meta


class _Completion(TypedDict):
    values: list[str]


class Completion(_Completion, total=False):
    """The `completion` member of a completion/complete result; at most 100 values."""

    total: int
    hasMore: bool


class _DiscoverResult(TypedDict):
    supportedVersions: list[str]
    capabilities: dict[str, Any]


class DiscoverResult(_DiscoverResult, total=False):
    """The result of server/discover; `ttlMs` in milliseconds."""

    instructions: str
    ttlMs: int
    cacheScope: Literal["public", "private"]
    _meta: Meta


# --- questions of a server to a client --------------------------------------------------------------------------


class _Root(TypedDict):
    uri: str


class Root(_Root, total=False):
    """A directory (file: URI) in which the client's user works."""

    name: str
    _meta: Meta


class ElicitResult(TypedDict, total=False):
    """The client's answer to elicitation/create; `content` only with "accept"."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any]


class _SamplingMessage(TypedDict):
    role: Role
    content: Any  # one block or a list: text, image, audio, tool_use, tool_result


class SamplingMessage(_SamplingMessage, total=False):
    """One message of sampling/createMessage."""

    _meta: Meta


class ModelHint(TypedDict, total=False):
    """Part of a model's name, as a wish."""

    name: str


class ModelPreferences(TypedDict, total=False):
    """The weights in the choice of a model; priorities are 0 to 1."""

    hints: list[ModelHint]
    costPriority: float
    speedPriority: float
    intelligencePriority: float


class _CreateMessageResult(TypedDict):
    role: Role
    content: Any
    model: str


class CreateMessageResult(_CreateMessageResult, total=False):
    """The client's answer to sampling/createMessage."""

    stopReason: str
    _meta: Meta
