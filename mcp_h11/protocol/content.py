# SPDX-License-Identifier: MIT
"""Constructors for handlers: content blocks, messages of a prompt, pictures and sounds, a result that is kept.

It reads nothing: the arguments of a client are judged by the signature of a function (`schema`), never here.

Rule: plain dicts with the wire's own key names, so that the result of a handler goes to JSON as it is.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .fieldnames import is_field_name

if TYPE_CHECKING:
    from .types import (
        Annotations,
        AudioContent,
        ContentBlock,
        EmbeddedResource,
        Icon,
        ImageContent,
        Meta,
        PromptMessage,
        ResourceContents,
        ResourceLink,
        TextContent,
    )

CONTENT_TYPES = frozenset({"text", "image", "audio", "resource_link", "resource"})


def _described(block: dict[str, Any], annotations: Mapping[str, Any] | None, meta: Meta | None) -> Any:
    if annotations is not None:
        block["annotations"] = dict(annotations)
    if meta is not None:
        block["_meta"] = meta
    return block


def text(value: str, *, annotations: Annotations | None = None, meta: Meta | None = None) -> TextContent:
    """A text block with `value`; `annotations` and `meta` are those of the block."""
    block: TextContent = _described({"type": "text", "text": value}, annotations, meta)
    return block


def image(
    data: bytes, mime_type: str = "image/png", *, annotations: Annotations | None = None, meta: Meta | None = None
) -> ImageContent:
    """An image block: `data` are the bytes of a picture file, of the type `mime_type`.

    `annotations` and `meta` are those of the block.
    """
    raw = {"type": "image", "data": base64.b64encode(data).decode("ascii"), "mimeType": mime_type}
    block: ImageContent = _described(raw, annotations, meta)
    return block


def audio(
    data: bytes, mime_type: str = "audio/wav", *, annotations: Annotations | None = None, meta: Meta | None = None
) -> AudioContent:
    """An audio block: `data` are the bytes of a sound file, of the type `mime_type`.

    `annotations` and `meta` are those of the block.
    """
    raw = {"type": "audio", "data": base64.b64encode(data).decode("ascii"), "mimeType": mime_type}
    block: AudioContent = _described(raw, annotations, meta)
    return block


def resource_link(
    uri: str,
    name: str,
    *,
    title: str | None = None,
    description: str | None = None,
    mime_type: str | None = None,
    size: int | None = None,
    icons: Sequence[Icon] | None = None,
    annotations: Annotations | None = None,
    meta: Meta | None = None,
) -> ResourceLink:
    """A link to a resource, which need not be in resources/list.

    Args:
        uri: The resource's URI.
        name, title, description, icons: Facts that a client shows.
        mime_type, size: The type of its contents, and their bytes.
        annotations, meta: Those of the block.
    """
    raw: dict[str, Any] = {"type": "resource_link", "uri": uri, "name": name}
    optional = {
        "title": title,
        "description": description,
        "mimeType": mime_type,
        "size": size,
        "icons": None if icons is None else list(icons),
    }
    raw.update((key, value) for key, value in optional.items() if value is not None)
    block: ResourceLink = _described(raw, annotations, meta)
    return block


def embedded(
    uri: str,
    *,
    text: str | None = None,
    blob: bytes | None = None,
    mime_type: str | None = None,
    annotations: Annotations | None = None,
    meta: Meta | None = None,
) -> EmbeddedResource:
    """A resource with its contents.

    Args:
        uri: The resource's URI.
        text, blob: Its contents: exactly one of the two, else ValueError.
        mime_type: The type of the contents.
        annotations, meta: Those of the block.
    """
    contents = resource_contents(uri, text=text, blob=blob, mime_type=mime_type)
    block: EmbeddedResource = _described({"type": "resource", "resource": contents}, annotations, meta)
    return block


def resource_contents(
    uri: str,
    *,
    text: str | None = None,
    blob: bytes | None = None,
    mime_type: str | None = None,
    meta: Meta | None = None,
) -> ResourceContents:
    """One entry of a resources/read result: exactly one of `text` and `blob`, else ValueError."""
    if (text is None) == (blob is None):
        raise ValueError("give exactly one of text and blob")
    contents: ResourceContents = {"uri": uri}
    if mime_type is not None:
        contents["mimeType"] = mime_type
    if text is not None:
        contents["text"] = text
    if blob is not None:
        contents["blob"] = base64.b64encode(blob).decode("ascii")
    if meta is not None:
        contents["_meta"] = meta
    return contents


def user(content: str | Image | Audio | ContentBlock) -> PromptMessage:
    """A prompt message in the user's name; `content` is a text, a picture, a sound or a content block."""
    return {"role": "user", "content": _block(content)}


def assistant(content: str | Image | Audio | ContentBlock) -> PromptMessage:
    """A prompt message in the model's name; `content` is a text, a picture, a sound or a content block."""
    return {"role": "assistant", "content": _block(content)}


def _block(content: str | Image | Audio | ContentBlock) -> ContentBlock:
    if isinstance(content, str):
        return text(content)
    if isinstance(content, (Image, Audio)):
        return content.to_content()
    return content


class _Media:
    """A picture or a sound, from a file or from bytes; the file is read by `to_content`, not before."""

    __slots__ = ("data", "mime_type", "path")
    kind = ""
    default = ""
    suffixes: Mapping[str, str] = {}

    def __init__(
        self, path: str | os.PathLike[str] | None = None, data: bytes | None = None, format: str | None = None
    ) -> None:
        """Give exactly one of `path` and `data`, else ValueError; `format` is "png", "wav", … or a media type."""
        if (path is None) == (data is None):
            raise ValueError("give exactly one of path and data")
        from pathlib import Path  # a quarter of a megabyte, which few servers need

        self.path = None if path is None else Path(path)
        self.data = data
        self.mime_type = self._mime_type(format)

    def _mime_type(self, format: str | None) -> str:
        if format:
            name = format.lower().lstrip(".")
            return name if "/" in name else self.suffixes.get(name, f"{self.kind}/{name}")
        if self.path is None:
            return self.default
        return self.suffixes.get(self.path.suffix.lower().lstrip("."), "application/octet-stream")

    def _bytes(self) -> bytes:
        if self.path is not None:
            return self.path.read_bytes()
        return self.data or b""

    def __repr__(self) -> str:
        source = f"path={str(self.path)!r}" if self.path is not None else f"data=<{len(self.data or b'')} bytes>"
        return f"{type(self).__name__}({source}, format={self.mime_type!r})"


class Image(_Media):
    """A picture for a tool to return: `Image("chart.png")` or `Image(data=png, format="png")`."""

    __slots__ = ()
    kind = "image"
    default = "image/png"
    suffixes = {
        "png": "image/png",
        "jpg": "image/jpeg",
        "jpeg": "image/jpeg",
        "gif": "image/gif",
        "webp": "image/webp",
        "avif": "image/avif",
        "bmp": "image/bmp",
        "svg": "image/svg+xml",
        "tif": "image/tiff",
        "tiff": "image/tiff",
    }

    def to_content(self) -> ImageContent:
        """The content block; reads the file, and raises OSError where that fails."""
        return image(self._bytes(), self.mime_type)


class Audio(_Media):
    """A sound for a tool to return: `Audio("bell.wav")` or `Audio(data=wav, format="wav")`."""

    __slots__ = ()
    kind = "audio"
    default = "audio/wav"
    suffixes = {
        "wav": "audio/wav",
        "mp3": "audio/mpeg",
        "ogg": "audio/ogg",
        "opus": "audio/ogg",
        "flac": "audio/flac",
        "aac": "audio/aac",
        "m4a": "audio/mp4",
        "webm": "audio/webm",
    }

    def to_content(self) -> AudioContent:
        """The content block; reads the file, and raises OSError where that fails."""
        return audio(self._bytes(), self.mime_type)


class ParamHeader:
    """`Annotated[str, ParamHeader("Region")]`: clients repeat this argument in the header `Mcp-Param-Region`.

    For str, int and bool parameters.  Proxies on the way see the value: nothing secret belongs there.
    2026-07-28 server/tools, x-mcp-header.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        """ValueError where `name` is no HTTP field-name token."""
        if not is_field_name(name):
            raise ValueError(f"not an HTTP field-name token: {name!r}")
        self.name = name

    def __repr__(self) -> str:
        return f"ParamHeader({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParamHeader) and other.name == self.name

    def __hash__(self) -> int:
        return hash((ParamHeader, self.name))


class StableResult(dict[str, Any]):
    """A result that will not change: an era may keep its encoding in `encoded`, under a key of its choosing.

    A handler that makes one promises not to change it, nor the objects in it; a list that changed is a new
    StableResult.
    """

    __slots__ = ("encoded",)
    encoded: dict[object, bytes]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoded = {}
