# SPDX-License-Identifier: MIT
"""A reader of log lines as strict as those of programs that ship logs."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

LEVELS = {"debug", "info", "warning", "error", "critical"}
MAX_BYTES = 32 * 1024  # Fluent Bit's Buffer_Max_Size: it leaves out a line that does not fit
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")  # a form of RFC 3339


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), f"a name comes twice: {pairs}"
    return found


def _no_number(text: str) -> None:
    raise AssertionError(f"{text} is no number of JSON")


def shipped(data: bytes) -> list[dict[str, Any]]:
    """The object of each line.  Fails at one that a strict parser of RFC 8259 refuses, or that is no entry of a log."""
    assert data.endswith(b"\n") or not data, "the last line has no end"
    return [entry(line) for line in data.split(b"\n")[:-1]]


def entry(line: bytes) -> dict[str, Any]:
    assert len(line) < MAX_BYTES, f"a line of {len(line)} bytes"
    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except ValueError as exc:
        raise AssertionError(f"no JSON: {line[:300]!r} ... {line[-100:]!r}") from exc
    assert type(found) is dict
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair cannot be encoded
    assert TIME.fullmatch(found["time"]), found
    datetime.strptime(found["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
    assert found["level"] in LEVELS, found
    assert found["logger"] and isinstance(found["logger"], str) and isinstance(found["message"], str), found
    return found
