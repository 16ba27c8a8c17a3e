# SPDX-License-Identifier: MIT
"""A folder of skills: each folder in it that has a SKILL.md, at any depth, with its files, their sizes and digests.

`look` gives the state of the folder at this moment.  A file is read again only where its size or its times differ from
those of the last look.  A skill that breaks a rule is not served; `problems` says which, and why.

Rule: names that begin with a dot, and symbolic links, are not served and not looked into.

SEP-2640, Skill Format, Resource Mapping and Limits; the Agent Skills specification, `name` and `description`.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .frontmatter import front_matter
from .safe_folder import SafeFolder

SCHEME = "skill://"
SKILL_FILE = "SKILL.md"
# SEP-2640, Limits: "Hosts MUST support skills up to and including these limits".
MAX_SKILL_FILES = 512
MAX_SKILL_BYTES = 16 * 1024 * 1024
MAX_MANIFEST_BYTES = 1024 * 1024  # of one SKILL.md
MAX_WALKED = 50_000  # names in the whole folder
MAX_LEVELS = 24  # folders within one another
MAX_DESCRIPTION = 1_024  # characters; Agent Skills specification, `description`
_SETTLED = 2.0  # seconds after which a file system has given a changed file another time
_NAME = re.compile(r"(?!.*--)[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
# RFC 3986, 3.2.2: the signs of a name in the place of a host, beside letters, digits and "-._~"; and the slash.
_UNQUOTED = "!$&'()*+,;=/"
FOLDER_TYPE = "inode/directory"
# By the end of the name: the tables of the system differ from machine to machine.
TYPES = {
    "md": "text/markdown", "txt": "text/plain", "html": "text/html", "css": "text/css", "csv": "text/csv",
    "xml": "text/xml", "py": "text/x-python", "sh": "text/x-shellscript", "js": "text/javascript",
    "ts": "text/typescript", "json": "application/json", "yaml": "application/yaml", "yml": "application/yaml",
    "toml": "application/toml", "pdf": "application/pdf", "zip": "application/zip", "svg": "image/svg+xml",
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}  # fmt: skip


def uri_of(path: str) -> str:
    """The URI of a path below the folder; "/" joins the parts of the path."""
    return SCHEME + quote(path, safe=_UNQUOTED)


@dataclass(frozen=True)
class SkillFile:
    """One file of a skill; `path` is that below the folder."""

    path: str
    size: int
    digest: str
    is_text: bool  # UTF-8

    @property
    def uri(self) -> str:
        return uri_of(self.path)

    @property
    def mime_type(self) -> str:
        """The MIME type, by the end of the name; a text or bytes where that says nothing."""
        known = TYPES.get(self.path.rpartition("/")[2].rpartition(".")[2].lower())
        return known or ("text/plain" if self.is_text else "application/octet-stream")


@dataclass(frozen=True)
class Skill:
    """One skill: the path of its folder, its front matter, and all its files, those of nested skills too."""

    path: str
    front: dict[str, Any]
    files: tuple[SkillFile, ...]

    @property
    def uri(self) -> str:
        """The URI of its SKILL.md."""
        return uri_of(f"{self.path}/{SKILL_FILE}")

    def entry(self) -> dict[str, Any]:
        """SEP-2640, Skill Entries."""
        resources = [{"uri": one.uri, "digest": one.digest, "size": one.size} for one in self.files]
        return {"uri": self.uri, "frontmatter": self.front, "resources": resources}


@dataclass(frozen=True)
class Found:
    """The state of a folder: skills, files, and the paths in each folder that is served; all of them by their URIs."""

    skills: dict[str, Skill] = field(default_factory=dict)
    files: dict[str, SkillFile] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class _Folder:
    """One folder of the walk."""

    __slots__ = ("files", "folders", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: list[tuple[str, os.stat_result]] = []
        self.folders: list[_Folder] = []

    def below(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every file in it and below."""
        yield from self.files
        for folder in self.folders:
            yield from folder.below()

    def all(self) -> Iterator[_Folder]:
        """It, and every folder below."""
        yield self
        for folder in self.folders:
            yield from folder.all()


class SkillFolder:
    """The skills below a folder.  Its methods block, and may be called from any thread.

    A folder that has a SKILL.md itself is one skill.  Raises ValueError for a path that is no folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(path)
        if not os.path.isdir(self._root):
            raise ValueError(f"{os.fspath(path)} is no folder")
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, ...], SkillFile, dict[str, Any] | str | None]] = {}
        self._found = Found()
        self._looked = -1.0
        self._walked = 0
        self._problems: list[str] = []

    # The name under which the root's own skill is served; "" for a folder of skills.
    def _base(self) -> str:
        own = os.path.isfile(os.path.join(self._root, SKILL_FILE))
        return os.path.basename(self._root) if own else ""

    def look(self, max_age: float = 0.0) -> Found:
        """The state of the folder, at most `max_age` seconds old."""
        asked = time.monotonic()
        with self._lock:
            # Many may have waited here: one look that began after they asked is enough for all of them.
            if self._looked < asked - max_age:
                began = time.monotonic()
                self._found = self._look()
                self._looked = began
            return self._found

    def read(self, found: SkillFile) -> bytes:
        """The bytes of a file, as they are now.  Raises OSError where it is gone, or has become something else."""
        base = self._base()
        path = found.path.removeprefix(f"{base}/") if base else found.path
        *folders, name = path.split("/")
        with ExitStack() as stack:
            folder = stack.enter_context(SafeFolder.at(self._root))
            for part in folders:
                folder = stack.enter_context(folder.folder(part))
            with open(folder.open(name), "rb") as file:
                data = file.read(MAX_SKILL_BYTES + 1)
        if len(data) > MAX_SKILL_BYTES:
            raise OSError("it has become too large")
        return data

    # --- looking ---------------------------------------------------------------------------------------------

    def _look(self) -> Found:
        self._problems, self._walked = [], 0
        known, self._known = self._known, {}
        try:
            with SafeFolder.at(self._root) as root:
                tree = _Folder(self._base())
                skills: list[tuple[_Folder, Skill]] = []
                self._walk(root, tree, known, skills, 0)
        except OSError as exc:
            return Found(problems=(f"{self._root} cannot be read: {exc.strerror or exc}",))
        if self._walked > MAX_WALKED:
            self._tell("", f"there are more than {MAX_WALKED} names in all: skills behind them are not served")
        return self._served(tree, skills)

    def _walk(
        self, folder: SafeFolder, into: _Folder, known: dict[str, Any], skills: list[tuple[_Folder, Skill]], level: int
    ) -> None:
        """Collect a folder and those below it; then the skill that it is, since its files include theirs."""
        open_files: list[str] = []
        for one in folder.names():
            if one.name.startswith("."):
                continue
            self._walked += 1
            if self._walked > MAX_WALKED:  # a skill with files that are not known is not served
                return
            path = f"{into.path}/{one.name}" if into.path else one.name
            if not _is_utf8(one.name):
                self._tell(into.path, f"the name {one.name!r} is no UTF-8, and is left out")
            elif one.folder:
                if level >= MAX_LEVELS:
                    self._tell(path, f"more than {MAX_LEVELS} folders within one another: left out")
                    continue
                inner = _Folder(path)
                into.folders.append(inner)
                try:
                    with folder.folder(one.name) as below:
                        self._walk(below, inner, known, skills, level + 1)
                except OSError as exc:
                    self._tell(path, f"cannot be read: {exc.strerror or exc}")
            elif one.file:
                open_files.append(one.name)
            else:
                self._tell(path, "is a link, or no regular file, and is left out")
        self._take_files(folder, into, open_files)
        if self._walked <= MAX_WALKED and any(
            path == (f"{into.path}/{SKILL_FILE}" if into.path else SKILL_FILE) for path, _ in into.files
        ):
            self._take_skill(folder, into, known, skills)

    def _take_files(self, folder: SafeFolder, into: _Folder, names: list[str]) -> None:
        for name in names:
            path = f"{into.path}/{name}" if into.path else name
            try:
                descriptor = folder.open(name)
            except OSError as exc:
                self._tell(path, f"cannot be read: {exc.strerror or exc}")
                continue
            try:
                into.files.append((path, os.fstat(descriptor)))
            finally:
                os.close(descriptor)

    def _take_skill(
        self, folder: SafeFolder, into: _Folder, known: dict[str, Any], skills: list[tuple[_Folder, Skill]]
    ) -> None:
        """Add the skill that this folder is, or say why it is none."""
        listed = list(into.below())
        size = sum(status.st_size for _, status in listed)
        if len(listed) > MAX_SKILL_FILES or size > MAX_SKILL_BYTES:
            limits = f"{MAX_SKILL_FILES} files and {MAX_SKILL_BYTES} bytes"
            self._tell(
                into.path, f"is not served: {len(listed)} files of {size} bytes, and a skill has at most {limits}"
            )
            return
        files: list[SkillFile] = []
        front: dict[str, Any] = {}
        own = f"{into.path}/{SKILL_FILE}"
        for path, status in listed:
            try:
                file, read = self._file(folder, path[len(into.path) + 1 :], path, status, known)
            except OSError as exc:
                self._tell(into.path, f"is not served: {path} cannot be read: {exc.strerror or exc}")
                return
            files.append(file)
            if path == own:
                try:
                    front = _checked(read, path.split("/")[-2])
                except ValueError as exc:
                    self._tell(path, str(exc))
                    return
        skills.append((into, Skill(into.path, front, tuple(sorted(files, key=lambda one: one.uri)))))

    def _file(
        self, folder: SafeFolder, below: str, path: str, status: os.stat_result, known: dict[str, Any]
    ) -> tuple[SkillFile, dict[str, Any] | str | None]:
        """A file with its digest, and the front matter where it is a SKILL.md."""
        mark = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        seen = self._known.get(path) or known.get(path)
        if seen is not None and seen[0] == mark:
            self._known[path] = seen
            return seen[1], seen[2]
        *folders, name = below.split("/")
        with ExitStack() as stack:
            for part in folders:
                folder = stack.enter_context(folder.folder(part))
            file = stack.enter_context(open(folder.open(name), "rb"))
            began = time.time()
            data = file.read(MAX_SKILL_BYTES + 1)
        if len(data) > MAX_SKILL_BYTES:
            raise OSError("it has become too large")
        front: dict[str, Any] | str | None = None
        if name == SKILL_FILE:
            try:
                front = _front_of(data)
            except ValueError as exc:
                front = str(exc)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        found = SkillFile(path, len(data), digest, _is_text(data))
        # A file that was changed just now may be changed again under the same time: it is read again at the next look.
        if began - status.st_mtime > _SETTLED and len(data) == status.st_size:
            self._known[path] = (mark, found, front)
        return found, front

    def _served(self, tree: _Folder, skills: list[tuple[_Folder, Skill]]) -> Found:
        """The state that is served: the skills, their files, and the folders of them and on the way to them."""
        by_uri = {skill.uri: skill for _, skill in sorted(skills, key=lambda one: one[1].uri)}
        files = {file.uri: file for skill in by_uri.values() for file in skill.files}
        folders: dict[str, set[str]] = {}
        for folder, _ in skills:
            for one in folder.all():
                inside = folders.setdefault(one.path, set())
                inside.update(path for path, _ in one.files)
                inside.update(inner.path for inner in one.folders)
            path = folder.path
            while path:
                outer = path.rpartition("/")[0]
                folders.setdefault(outer, set()).add(path)
                path = outer
        listed = {uri_of(path): sorted(inside) for path, inside in folders.items()}
        return Found(by_uri, files, listed, tuple(self._problems))

    def _tell(self, path: str, problem: str) -> None:
        self._problems.append(f"{path or self._root}: {problem}")


def _front_of(data: bytes) -> dict[str, Any]:
    """The front matter of a SKILL.md.  Raises ValueError."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"a {SKILL_FILE} has at most {MAX_MANIFEST_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"a {SKILL_FILE} is UTF-8") from None
    return front_matter(text)


def _checked(front: dict[str, Any] | str | None, folder: str) -> dict[str, Any]:
    """The front matter of the skill in the folder of that name; a text is the reason why there is none.

    Raises ValueError, which says the rule.
    """
    if not isinstance(front, dict):
        raise ValueError(f"is not served: {front}")
    name, description = front.get("name"), front.get("description")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"is not served: `name` is 1 to 64 of a-z, 0-9 and single inner dashes, not {name!r:.80}")
    if name != folder:
        raise ValueError(f"is not served: its `name` is {name!r}, and the name of its folder is {folder!r:.80}")
    if not isinstance(description, str) or not 0 < len(description) <= MAX_DESCRIPTION:
        raise ValueError(f"is not served: `description` is a text of 1 to {MAX_DESCRIPTION} characters")
    return front


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_text(data: bytes) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", True)
    except UnicodeDecodeError:
        return False
    return b"\0" not in data
