# SPDX-License-Identifier: MIT
"""Hints after a refusal: the nearest name, the arguments of a tool, the place where a token comes from.

The server's own error is shown first and unchanged; these lines follow it.  They repeat the lists, schemas and metadata
of the server, and guess no rule of it.

Rule: the metadata of a resource is read from the server that was asked, and from no other address that a challenge
names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio

from ...client.http.httpclient import HTTPCall, HTTPClient
from ...client.http.urls import parse_url
from ...client.transports.errors import AuthorizationRequired
from ...http.addresses import on_loopback
from ..arguments import types_of
from ..parser import closest, did_you_mean
from ..program import login_command
from .printing import objects, shortened

MAX_NAMED = 20  # parameters of a tool, names of a list, addresses: as many as fit a screen
MAX_HINT_TEXT = 300  # characters of one of them
MAX_METADATA = 64 * 1024  # bytes
METADATA_LIMIT = 5.0  # seconds to read the metadata of a resource
# RFC 9110 section 11.2: name=token or name="quoted".
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


def meant(name: str, names: Iterable[Any]) -> str:
    """ "; did you mean add?", or "" if no name of the server is like this one."""
    folded = {one.casefold(): one for one in names if isinstance(one, str)}
    found = closest(name.casefold(), folded)
    return did_you_mean(shortened(folded[found], MAX_HINT_TEXT)) if found else ""


# --- tools and prompts ------------------------------------------------------------------------------------------------


def signature(schema: Any) -> str:
    """The parameters of a tool in one line: "a=INTEGER b=INTEGER [note=STRING]"."""
    properties, required = _members(schema)
    words = []
    for name, member in list(properties.items())[:MAX_NAMED]:
        word = f"{shortened(name, MAX_HINT_TEXT)}={_kind(member).upper()}"
        words.append(word if name in required else f"[{word}]")
    return " ".join([*words, *(["..."] if len(properties) > MAX_NAMED else [])])


def prompt_signature(arguments: Any) -> str:
    """The arguments of a prompt in the same form."""
    return signature(prompt_schema(arguments))


def prompt_schema(arguments: Any) -> dict[str, Any]:
    """The arguments of a prompt as a tool would have them; each of them is a text."""
    named = {one["name"]: one for one in objects(arguments) if isinstance(one.get("name"), str)}
    return {
        "properties": {name: {"type": "string", "description": one.get("description")} for name, one in named.items()},
        "required": [name for name, one in named.items() if one.get("required") is True],
    }


def argument_hints(name: str, schema: Any, given: Mapping[str, Any]) -> list[str]:
    """The arguments that are missing in a call, and those that the tool does not know; [] if there are none."""
    properties, required = _members(schema)
    missing = [one for one in required if one not in given]
    open_ended = not isinstance(schema, Mapping) or schema.get("additionalProperties", True) is not False
    # A tool that takes any member may well know it, unless one of its own was meant.
    unknown = [one for one in given if one not in properties and (not open_ended or meant(one, properties))]
    lines = [f"missing: {_described(one, properties.get(one))}" for one in missing[:MAX_NAMED]]
    lines += [f"unknown: {shortened(one, MAX_HINT_TEXT)}{meant(one, properties)}" for one in unknown[:MAX_NAMED]]
    if lines:
        lines.append(f"{shortened(name, MAX_HINT_TEXT)} takes: {signature(schema) or 'no arguments'}")
    return lines


def _members(schema: Any) -> tuple[dict[str, Any], list[str]]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    required = schema.get("required") if isinstance(schema, Mapping) else None
    names = [one for one in required if isinstance(one, str)] if isinstance(required, list) else []
    return properties if isinstance(properties, dict) else {}, names


def _kind(member: Any) -> str:
    kinds = sorted(types_of(member))
    return shortened("|".join(kinds), MAX_HINT_TEXT) if kinds else "any"


def _described(name: str, member: Any) -> str:
    about = member.get("description") if isinstance(member, Mapping) else None
    more = f", {shortened(' '.join(about.split()), MAX_HINT_TEXT)}" if isinstance(about, str) else ""
    values = member.get("enum") if isinstance(member, Mapping) else None
    if isinstance(values, list):
        more = f", one of {shortened(json.dumps(values, ensure_ascii=False)[1:-1], MAX_HINT_TEXT)}{more}"
    return f"{shortened(name, MAX_HINT_TEXT)} ({_kind(member)}{more})"


def name_hint(kind: str, name: str, names: Sequence[Any]) -> list[str]:
    """That a list does not have this name, and which of its names is near."""
    if name in names:
        return []
    said = f"{kind} {name!r:.{MAX_HINT_TEXT}} is not in the list of the server{meant(name, names)}"
    if meant(name, names) or not 0 < len(names) <= MAX_NAMED:
        return [said]
    return [f"{said}; it has {', '.join(shortened(one, MAX_HINT_TEXT) for one in names)}"]


# --- authorization ----------------------------------------------------------------------------------------------------


def challenge_parameters(challenge: str | None) -> dict[str, str]:
    """The parameters of a `WWW-Authenticate` header, by their names in lower case; the first of a name counts."""
    found: dict[str, str] = {}
    for name, quoted, token in _PARAMETER.findall(challenge or ""):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or token)
    return found


def login_advice(url: str, in_use: bool, scopes: str = "") -> list[str]:
    """The command by which a person logs in; `in_use` says that there was a login already."""
    origin = parse_url(url)[0]
    # Nothing else carries a token, so there would be no login.
    if not origin.secure and not on_loopback(origin.host):
        return []
    if scopes:
        return [f"log in with them: {login_command(url, scopes)}"]
    said = "the login here is not taken any more; log in again" if in_use else "to log in"
    return [f"{said}: {login_command(url)}"]


async def authorization_hints(
    error: AuthorizationRequired,
    url: str,
    variable: str,
    has_token: bool,
    http: Callable[[], HTTPClient] = HTTPClient,
    advice: Callable[..., list[str]] | None = None,
) -> list[str]:
    """The token or scopes that a 401 or a 403 asks for, and the place where a token comes from.

    Args:
        url: of the server that was asked.
        variable: of the environment, for the token.
        has_token: whether the request had one.
        http: makes the client that reads the metadata of the resource.
        advice: gives the lines about a login, for the scopes that are lacking.
    """
    said = challenge_parameters(error.www_authenticate)
    scopes = shortened(said.get("scope", ""), MAX_HINT_TEXT)
    if error.status == 403:
        if said.get("error") != "insufficient_scope":
            return []
        wanted = f"the token lacks scopes; the server asks for: {scopes}" if scopes else "the token lacks scopes"
        said_by = advice(scopes=scopes) if advice is not None and scopes else []
        return [wanted, *said_by, f"give a token that has them with --token or in {variable}"]
    if has_token:
        lines = [f"the server does not take this token (--token or {variable}): it may have ended, or be for another"]
    else:
        lines = advice() if advice is not None else []
        lines.append(f"the server wants a token: give it with --token, or in the environment as {variable}")
    if scopes:
        lines.append(f"scopes that it asks for: {scopes}")
    where = said.get("resource_metadata")
    if where is None:
        return lines
    issuers = await _issuers(where, url, http)
    if issuers:
        lines.append(f"tokens come from: {', '.join(shortened(one, MAX_HINT_TEXT) for one in issuers[:MAX_NAMED])}")
    else:
        lines.append(f"where tokens come from is said at {shortened(where, MAX_HINT_TEXT)}")
    return lines


async def _issuers(where: str, url: str, http: Callable[[], HTTPClient]) -> list[str]:
    """The authorization servers in the metadata of a resource (RFC 9728 section 2); [] where they cannot be read."""
    try:
        # Another address would make this program ask any server that the challenge names.
        if parse_url(where)[0] != parse_url(url)[0]:
            return []
        with anyio.move_on_after(METADATA_LIMIT):
            async with http() as client, await client.send(HTTPCall("GET", where)) as answer:
                if answer.status != 200:
                    return []
                servers = json.loads(await answer.read(MAX_METADATA)).get("authorization_servers")
                return [one for one in servers if isinstance(one, str)] if isinstance(servers, list) else []
    # Without the metadata there is one hint less; the error is shown in any case.
    except Exception:
        return []
    return []
