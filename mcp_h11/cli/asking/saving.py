# SPDX-License-Identifier: MIT
"""Images, sounds and files in a result: named in one line, written to stdout as bytes, or saved to a file.

A file is written beside its place and then renamed, so that a reader sees the whole new file or the whole old one.

Rules:
- FILE is replaced, since the user named it.  No file of a folder is: the server chose its name.
- A name of a server is one segment of a path, and never hidden.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import os
import re
import secrets
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...client.transports.errors import InvalidAnswer
from ..parser import UsageError
from .printing import bytes_in_words, content, line, on_terminal, out

STDOUT = "-"
MAX_FILE_NAME = 100  # characters of a file's name that a server chose
MAX_SAME = 1_000  # files of one name in a folder
_NO_NAME = re.compile(r"[^A-Za-z0-9._ -]+")


@dataclass(frozen=True)
class Part:
    """One content of a result.

    Attributes:
        label: its kind, in one line: "image image/png".
        name: for a file in a folder; it may be chosen by the server.
        data: its bytes; None for a link, which has none.
        text: where it is text.
        is_file: whether it is a resource, that is, a file also where it is text.
    """

    label: str
    name: str
    data: bytes | None
    text: str | None = None
    is_file: bool = False

    @property
    def summary(self) -> str:
        """One line for a content that a terminal cannot show."""
        return f"[{self.label}{'' if self.data is None else ', ' + bytes_in_words(len(self.data))}]"


def part_of(item: Any, name: str) -> Part:
    """A content block of a call, or a content of a resource.  Raises InvalidAnswer where its data is no base64.

    `name` is for the file where the content has none.
    """
    if not isinstance(item, Mapping):
        return _text_part("text", f"{name}.txt", str(item))
    inner = item.get("resource")
    # One step: a resource holds no other one, and a server that nests them has no end.
    if isinstance(inner, Mapping):
        item = {"type": "resource", **inner}
    kind, uri, form = item.get("type") or "resource", item.get("uri"), item.get("mimeType")
    text, data = item.get("text"), item.get("data") or item.get("blob")
    named = [kind, uri, form] if kind != "text" else [kind]
    label = " ".join(line(word) for word in named if isinstance(word, str) and word)
    if isinstance(uri, str) and uri:
        name = uri.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2] or name
    name = _file_name(name, form if isinstance(form, str) else "", ".txt" if isinstance(text, str) else ".bin")
    if isinstance(text, str):
        return _text_part(label, name, text, is_file=kind != "text")
    return Part(label, name, None if not isinstance(data, str) else _decoded(data, label))


def _text_part(label: str, name: str, text: str, *, is_file: bool = False) -> Part:
    # Half of a surrogate pair is no character, and UTF-8 cannot hold it.
    return Part(label, name, text.encode("utf-8", "backslashreplace"), text, is_file)


def _decoded(data: str, label: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidAnswer(f"the data of {label} is no base64") from None


def _file_name(name: str, form: str, ending: str) -> str:
    name = _NO_NAME.sub("-", name).strip(". -")[-MAX_FILE_NAME:].lstrip(". -") or "content"
    if "." in name:
        return name
    kind = form.partition(";")[0].strip().lower()
    return name + (mimetypes.guess_extension(kind) or ending)


# --- stdout -----------------------------------------------------------------------------------------------------------


def show(parts: Sequence[Part], *, hint: str = "") -> None:
    """Write each content as text, or as one line that names it, with a hint for a person at a terminal."""
    hint = hint if on_terminal(sys.stdout) else ""
    for part in parts:
        out(f"{part.summary}{hint if part.data is not None else ''}" if part.text is None else content(part.text))


def write_out(parts: Sequence[Part]) -> None:
    """The contents of a resource as bytes, one after the other.  Raises UsageError for bytes on a terminal.

    One content is written exactly.  Of several, a text is followed by a line end if it has none.
    """
    if on_terminal(sys.stdout):
        binary = [part for part in parts if part.text is None and part.data is not None]
        show([part for part in parts if part not in binary])
        if binary:
            which = ", ".join(part.summary for part in binary[:10])
            raise UsageError(f"{which} cannot be shown on a terminal: --output FILE saves it, a pipe gets its bytes")
        return
    write_bytes(parts)


def write_bytes(parts: Sequence[Part]) -> None:
    """As `write_out`, to a terminal as well."""
    sys.stdout.flush()
    for part in parts:
        sys.stdout.buffer.write(part.data or b"")
        if len(parts) > 1 and part.text is not None and not part.text.endswith("\n"):
            sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


# --- files ------------------------------------------------------------------------------------------------------------


def save(parts: Sequence[Part], output: str) -> list[str]:
    """Save contents, and return a line for each file.  Raises UsageError where they cannot be saved.

    `output` is a file for one content.  A folder, or a path that ends with a slash, takes any number, each under the
    last segment of its URI; `STDOUT` is stdout.
    """
    parts = [part for part in parts if part.data is not None]
    if output == STDOUT:
        write_bytes(parts)
        return []
    if not parts:
        raise UsageError("--output: the result has nothing that could be saved")
    path = Path(output)
    in_folder = path.is_dir() or output.endswith(("/", os.sep))
    if len(parts) > 1 and not in_folder:
        raise UsageError(f"--output {output}: there are {len(parts)} contents; a folder takes them: --output {output}/")
    try:
        if in_folder:
            path.mkdir(parents=True, exist_ok=True)
            return [_said(_save_new(path, part), part) for part in parts]
        _replace(path, parts[0].data or b"")
        return [_said(path, parts[0])]
    except OSError as exc:
        raise UsageError(f"--output {output}: {exc.strerror or exc}") from None


def _said(path: Path, part: Part) -> str:
    return f"saved {line(path)}: {part.label}, {bytes_in_words(len(part.data or b''))}"


def _replace(path: Path, data: bytes) -> None:
    # The file that a link leads to: the link stays one.
    path = path.resolve()
    try:
        before: os.stat_result | None = path.stat()
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        # A pipe or a device is written to, and not replaced by a file.
        path.write_bytes(data)
        return
    beside = path.with_name(f".{path.name[:MAX_FILE_NAME]}.{secrets.token_hex(6)}")
    try:
        _create(beside, data)
        if before is not None:
            os.chmod(beside, stat.S_IMODE(before.st_mode))
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _save_new(folder: Path, part: Part) -> Path:
    """A file under a name that no other file of the folder has."""
    stem, dot, ending = part.name.rpartition(".")
    for number in range(1, MAX_SAME + 1):
        path = folder / (part.name if number == 1 else f"{stem}-{number}{dot}{ending}")
        try:
            # The name is taken before the file is replaced, so that no other program can take it meanwhile.
            _create(path, b"")
        except FileExistsError:
            continue
        _replace(path, part.data or b"")
        return path
    raise UsageError(f"--output {folder}: there are {MAX_SAME} files {part.name}")


def _create(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
