# SPDX-License-Identifier: MIT
"""Reads fields of `Settings` from text: `--set max_running=200`, and `MCP_H11_MAX_RUNNING=200`.

The type of a field says how its text is read, so a new field needs no line here.  Names of the limits of one request
begin with `limits.` (`limits.max_body`), in a variable with `LIMITS_`.  A field that is an object of Python, such as a
verifier of tokens, cannot be given as text.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..http.messages import Limits
from ..runtime.settings import Settings
from .parser import ENVIRONMENT_PREFIX, UsageError, closest, did_you_mean
from .values import OneOf, bad_value, read_items, read_keys, read_switch, read_text

LIMITS = "limits."

Read = Callable[[str], Any]


def _whole(value: str) -> int:
    if not re.fullmatch("-?[0-9]{1,18}", value):
        raise bad_value(f"has to be a whole number, not {value!r}")
    return int(value)


def _decimal(value: str) -> float:
    # float() also takes "nan", "1_000" and " 7 "
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", value):
        raise bad_value(f"has to be a number, not {value!r}")
    return float(value)


def _rate(value: str) -> tuple[int, float]:
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9}(?:\.[0-9]{1,6})?)", value)
    if not found:
        raise bad_value(f"has to be requests/seconds such as 100/60, not {value!r}")
    return int(found[1]), float(found[2])


def _module(value: str) -> Any:
    try:
        module = importlib.import_module(value)
    except (ImportError, ValueError) as exc:
        raise bad_value(f"has to be the name of a module: {exc}") from None
    if not all(callable(getattr(module, name, None)) for name in ("loads", "dumps")):
        raise bad_value(f"has to be a module with loads and dumps, which {value} has not")
    return module


_READ: dict[str, Read] = {
    "str": read_text,
    "bool": read_switch,
    "int": _whole,
    "float": _decimal,
    "Sequence[str]": read_items,
    "Sequence[bytes]": read_keys,
    "tuple[int, float]": _rate,
}
# A field whose type does not say enough.
_BY_NAME: dict[str, Read] = {"json": _module, "tracing": read_switch}


def _reader(name: str, annotation: str) -> Read | None:
    """How the text of a field is read; None where the field is an object of Python."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    inner = annotation.removesuffix(" | None")
    words = re.findall(r'"([^"]*)"', inner) if "Literal[" in inner else []
    read = OneOf(*words) if words else _READ.get(inner)
    if read is None or inner == annotation:
        return read
    return lambda value: None if value.lower() == "none" else read(value)


def readers() -> dict[str, Read | None]:
    """The reader of each field of `Settings`, by its name; the limits of a request as `limits.NAME`."""
    found: dict[str, Read | None] = {}
    for field in dataclasses.fields(Settings):
        if field.name != "limits":
            found[field.name] = _reader(field.name, str(field.type))
    for field in dataclasses.fields(Limits):
        found[LIMITS + field.name] = _reader(field.name, str(field.type))
    return found


def settings_in_words(options: Collection[str]) -> str:
    """The names for `--set`, as lines for a help, without those that have an option of their own."""
    import textwrap  # only the long help needs it

    names = ", ".join(name for name, read in readers().items() if read is not None and name not in options)
    lines = textwrap.fill(names, 78, initial_indent="  ", subsequent_indent="  ")
    return f"settings for --set, which docs/settings.md explains:\n{lines}"


def variable_of(name: str) -> str:
    """The variable of a field."""
    return ENVIRONMENT_PREFIX + name.replace(".", "_").upper()


def read_field(name: str, text: str, label: str) -> Any:
    """The value of a field; `label` is the option or variable as the user wrote it, for messages.

    Raises:
        UsageError: there is no such field, it cannot be given as text, or the text does not fit.
    """
    known = readers()
    if name not in known:
        raise UsageError(f"{label}: there is no such setting{did_you_mean(closest(name, known))}")
    read = known[name]
    if read is None:
        raise UsageError(f"{label}: this is an object of Python, so give it in code, as a keyword of run() or serve()")
    try:
        return read(text)
    except argparse.ArgumentTypeError as exc:
        raise UsageError(f"{label} {exc}") from None


# Variables that other commands read, and those of the tests of this package.
_OF_COMMANDS = tuple(ENVIRONMENT_PREFIX + name for name in ("CLIENT_TOKEN", "CLIENT_SECRET", "BEARER", "LOGINS"))
_OF_TESTS = tuple(
    ENVIRONMENT_PREFIX + name
    for name in (
        "CONFORMANCE", "EXAMPLES", "NPM", "PICTURES", "PY130", "REQUIRE_ALL", "SCHEDULES", "SCHEDULE_SECONDS",
        "SCHEMAS",
    )
)  # fmt: skip


def from_environment(environ: Mapping[str, str], taken: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields that variables give, without the variables `taken`, and a warning for each unknown variable."""
    others = [name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and name not in taken]
    if not others:
        return {}, []
    fields: dict[str, Any] = {}
    names = {variable_of(name): name for name in readers()}
    known = [*taken, *names, *_OF_COMMANDS]
    for variable in others:
        # An empty variable is how compose files say "not set".
        if variable in names and environ[variable]:
            fields[names[variable]] = read_field(names[variable], environ[variable], f"environment variable {variable}")
    unknown = [name for name in others if name not in known and name not in _OF_TESTS]
    return fields, [
        f"the environment variable {name} is unknown{did_you_mean(closest(name, known))}" for name in unknown
    ]


def settings_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """These fields as keywords of `Settings`."""
    limits = {name.removeprefix(LIMITS): value for name, value in fields.items() if name.startswith(LIMITS)}
    found = {name: value for name, value in fields.items() if not name.startswith(LIMITS)}
    return {**found, "limits": Limits(**limits)} if limits else found
