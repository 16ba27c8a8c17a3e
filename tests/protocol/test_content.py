# SPDX-License-Identifier: MIT
from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mcp_h11.protocol import content
from mcp_h11.protocol.content import Audio, Image, ParamHeader, StableResult


def test_constructors_make_wire_objects() -> None:
    assert content.text("hi") == {"type": "text", "text": "hi"}
    assert content.image(b"\x00\xff") == {"type": "image", "data": "AP8=", "mimeType": "image/png"}
    assert content.image(b"", "image/gif") == {"type": "image", "data": "", "mimeType": "image/gif"}
    assert content.audio(b"\x00") == {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}
    assert content.resource_link("a:b", "b") == {"type": "resource_link", "uri": "a:b", "name": "b"}
    assert content.embedded("a:b", text="t", mime_type="text/plain") == {
        "type": "resource",
        "resource": {"uri": "a:b", "mimeType": "text/plain", "text": "t"},
    }
    assert content.embedded("a:b", blob=b"\x01") == {"type": "resource", "resource": {"uri": "a:b", "blob": "AQ=="}}


def test_optional_members_appear_only_when_given() -> None:
    link = content.resource_link(
        "a:b",
        "b",
        title="B",
        description="d",
        mime_type="text/plain",
        size=0,
        icons=({"src": "data:,"},),
        annotations={"priority": 0.5},
        meta={"k": 1},
    )
    assert link == {
        "type": "resource_link",
        "uri": "a:b",
        "name": "b",
        "title": "B",
        "description": "d",
        "mimeType": "text/plain",
        "size": 0,
        "icons": [{"src": "data:,"}],
        "annotations": {"priority": 0.5},
        "_meta": {"k": 1},
    }
    assert content.text("", annotations={}, meta={}) == {"type": "text", "text": "", "annotations": {}, "_meta": {}}
    assert content.resource_contents("a:b", text="", meta={"k": 1}) == {"uri": "a:b", "text": "", "_meta": {"k": 1}}


@pytest.mark.parametrize("given", [{}, {"text": "t", "blob": b""}])
def test_contents_are_text_or_blob_and_never_both(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of text and blob"):
        content.embedded("a:b", **given)


def test_prompt_messages_take_text_media_and_blocks() -> None:
    assert content.user("hi") == {"role": "user", "content": {"type": "text", "text": "hi"}}
    assert content.assistant(content.text("yo")) == {"role": "assistant", "content": {"type": "text", "text": "yo"}}
    assert content.user(Image(data=b"\x00")) == {
        "role": "user",
        "content": {"type": "image", "data": "AA==", "mimeType": "image/png"},
    }
    assert content.assistant(Audio(data=b"\x00"))["content"]["type"] == "audio"


@pytest.mark.parametrize("kind", [Image, Audio])
def test_media_come_from_a_path_or_from_data(kind: type[Image] | type[Audio]) -> None:
    with pytest.raises(ValueError, match="exactly one of path and data"):
        kind()
    with pytest.raises(ValueError, match="exactly one of path and data"):
        kind("x.png", b"")
    # The official helper refuses empty data for one of the two; an empty file is a file.
    assert kind(data=b"").to_content()["data"] == ""


@pytest.mark.parametrize(
    ("media", "mime_type"),
    [
        (Image("a.JPG"), "image/jpeg"),
        (Image(Path("a.png")), "image/png"),
        (Image("a.unknown"), "application/octet-stream"),
        (Image("noext"), "application/octet-stream"),
        (Image("a.png", format="gif"), "image/gif"),
        (Image(data=b""), "image/png"),
        (Image(data=b"", format="jpg"), "image/jpeg"),
        (Image(data=b"", format=".SVG"), "image/svg+xml"),
        (Image(data=b"", format="heic"), "image/heic"),
        (Image(data=b"", format="image/x-icon"), "image/x-icon"),
        (Audio("a.mp3"), "audio/mpeg"),
        (Audio(data=b""), "audio/wav"),
        (Audio(data=b"", format="OGG"), "audio/ogg"),
    ],
)
def test_media_types_follow_format_then_suffix(media: Image | Audio, mime_type: str) -> None:
    assert media.mime_type == mime_type


def test_a_path_is_read_when_the_content_is_made_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    media = Image(path)
    with pytest.raises(FileNotFoundError):
        media.to_content()
    path.write_bytes(b"one")
    assert base64.b64decode(media.to_content()["data"]) == b"one"
    path.write_bytes(b"two")
    assert base64.b64decode(media.to_content()["data"]) == b"two"


def test_a_media_repr_does_not_spill_its_bytes() -> None:
    assert repr(Image(data=b"abc")) == "Image(data=<3 bytes>, format='image/png')"
    assert repr(Audio("a.wav")) == "Audio(path='a.wav', format='audio/wav')"


def test_a_param_header_is_a_token() -> None:
    assert ParamHeader("X-Region!").name == "X-Region!"
    assert ParamHeader("A") == ParamHeader("A") != ParamHeader("B")
    assert len({ParamHeader("A"), ParamHeader("A")}) == 1
    assert repr(ParamHeader("A")) == "ParamHeader('A')"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\n", "é", "a/b"])
def test_a_param_header_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="field-name token"):
        ParamHeader(name)


def test_a_stable_result_is_a_dict_with_room_for_encodings() -> None:
    result = StableResult({"tools": []}, nextCursor="x")
    assert result == {"tools": [], "nextCursor": "x"}
    assert json.dumps(result) == '{"tools": [], "nextCursor": "x"}'
    result.encoded["2025-11-25"] = b"{}"
    assert result == {"tools": [], "nextCursor": "x"}
    assert StableResult().encoded == {}
    with pytest.raises(AttributeError):
        result.other = 1  # type: ignore[attr-defined]
