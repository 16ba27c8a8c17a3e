# SPDX-License-Identifier: MIT
"""Reads the values of options, variables and settings from text.

Each function raises `argparse.ArgumentTypeError` for a text that does not fit.  Its message goes on from the
name of the option or variable.

Rule: a message holds no secret.
"""

from __future__ import annotations

import argparse
import re

from ..http.addresses import checked_prefix
from ..runtime.request_state import MIN_KEY
from ..server.server import MAX_WORKERS

ANY = "*"
MAX_KEYS = 64 * 1024  # bytes of a file of keys


def bad_value(reason: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(reason)


def read_text(value: str) -> str:
    if not value.strip():
        raise bad_value("may not be empty")
    return value


def _number(value: str, most: int) -> int:
    # int() also takes "1_000", " 7 " and digits of other scripts
    if not re.fullmatch("[0-9]{1,10}", value) or int(value) > most:
        raise bad_value(f"has to be a number from 0 to {most}, not {value!r}")
    return int(value)


def read_port(value: str) -> int:
    return _number(value, 65535)


def read_workers(value: str) -> int:
    return _number(value, MAX_WORKERS)


def read_seconds(value: str) -> float:
    # float() also takes "nan", "1e9" and " 7 "
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not float(value):
        raise bad_value(f"has to be a number of seconds greater than 0, not {value!r}")
    return float(value)


def read_descriptor(value: str) -> int:
    return _number(value, 2**31 - 1)


def read_path(value: str) -> str:
    # A path as it stands in a request line: visible ASCII, no query and no fragment.
    if not re.fullmatch(r"/[!-~]*", value) or set(value) & set("?#"):
        raise bad_value(f"has to begin with '/' and have no space, '?' or '#', not {value!r}")
    return value


def read_prefix(value: str) -> str:
    try:
        return checked_prefix(value)
    except ValueError:
        raise bad_value(f"has to be a path such as /tools, without dots and empty segments, not {value!r}") from None


def read_token(value: str) -> str:
    # RFC 6750 section 2.1, b64token.  The value is kept out of the message.
    if not re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", value):
        raise bad_value("has to be a bearer token: letters, digits and - . _ ~ + / with = at the end only")
    return value


def read_items(value: str) -> list[str]:
    items = [item.strip() for item in value.split(",")]
    if not all(items):
        raise bad_value("has to be a comma-separated list without empty items")
    return [ANY if item.lower() == "any" else item for item in items]


def read_mode(value: str) -> int:
    # As chmod has it: octal, with or without a leading 0.
    if not re.fullmatch("0?[0-7]{3}", value) or not int(value, 8):
        raise bad_value(f"has to be permission bits such as 600 or 0660, not {value!r}")
    return int(value, 8)


class OneOf:
    """Reads one of a few words; `choices` are for the completion of shells."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: str) -> str:
        if value.lower() not in self.choices:
            raise bad_value(f"has to be one of {', '.join(self.choices)}, not {value!r}")
        return value.lower()


_SWITCH_WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def read_switch(value: str) -> bool:
    try:
        return _SWITCH_WORDS[value.lower()]
    except KeyError:
        raise bad_value(f"has to be one of {', '.join(_SWITCH_WORDS)}, not {value!r}") from None


def read_keys(value: str) -> list[bytes]:
    """Keys that seal the state of requests: separated by commas, or, after an @, the name of a file with one a line."""
    if value.startswith("@"):
        try:
            with open(value[1:], "rb") as file:
                data = file.read(MAX_KEYS + 1)
        except OSError as exc:
            raise bad_value(f"names a file that cannot be read: {value[1:]}: {exc.strerror}") from None
        if len(data) > MAX_KEYS:
            raise bad_value(f"names a file of more than {MAX_KEYS} bytes: {value[1:]}")
        found = data.split()
    else:
        found = [key.strip().encode("utf-8", "surrogateescape") for key in value.split(",")]
    if not found or any(len(key) < MIN_KEY for key in found):
        raise bad_value(f"has to be keys of at least {MIN_KEY} bytes, or @FILE with a key a line; the first key seals")
    return found
