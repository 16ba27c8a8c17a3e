# SPDX-License-Identifier: MIT
"""Judges the messages that a server sent, by the published schema of the revision they were sent in.

The schemas are open: they let a server add any member anywhere.  Here each object that the schema describes by its
members is closed, because a member that a revision does not have is not to be sent to it.  What the schema leaves
open on purpose (`_meta`, `data`, `experimental`, a tool's own JSON Schema) stays open.  A few rules that only the
prose has are checked as well; each quotes its source.

Use `check_message` and `check_stream`.  They raise `WireError` for a bad message, and `Unavailable` where no schema is
at hand: a test then has to say aloud that it did not check (the fixture `schemas`, or `checked`).

The schema files are looked for in the directory that MCP_H11_SCHEMAS names, then in ../shared/schema beside the
repository, as `<revision>.json`; for the two newest revisions the models of the PyPI package `mcp-types` stand in.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

A, B, C, D, E = ALL = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
_DIALECT_2020 = "https://json-schema.org/draft/2020-12/schema"
VARIABLE = "MCP_H11_SCHEMAS"
MAX_COMPLETIONS = 100
SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"

RESULTS = {
    "initialize": "InitializeResult",
    "server/discover": "DiscoverResult",
    "ping": "EmptyResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "resources/subscribe": "EmptyResult",
    "resources/unsubscribe": "EmptyResult",
    "prompts/list": "ListPromptsResult",
    "prompts/get": "GetPromptResult",
    "completion/complete": "CompleteResult",
    "logging/setLevel": "EmptyResult",
    "subscriptions/listen": "SubscriptionsListenResult",
}
# 2026-07-28 basic/patterns/mrtr, Supported Requests
_MAY_ASK = ("tools/call", "prompts/get", "resources/read")
# 2026-07-28 basic/patterns/subscriptions: what may travel on a listen stream, and nowhere else
_LISTENED = (
    "notifications/subscriptions/acknowledged",
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
)
_ERRORS = {
    -32020: "HeaderMismatchError",
    -32021: "MissingRequiredClientCapabilityError",
    -32022: "UnsupportedProtocolVersionError",
    -32042: "URLElicitationRequiredError",
}


class Unavailable(Exception):
    """There is no schema of that revision on this machine; the text says where one was looked for."""


class WireError(AssertionError):
    """The message is not one of its revision; the text lists what is wrong with it."""


class SchemaUnavailable(UserWarning):
    """Messages went by unchecked."""


# -- finding the schemas --


def _directories() -> Iterator[Path]:
    if named := os.environ.get(VARIABLE):
        yield Path(named)
    else:
        yield Path(__file__).resolve().parents[3] / "shared" / "schema"


def load_schema(revision: str) -> dict[str, Any]:
    """The published schema of `revision`, or one made from the models of mcp-types; raises Unavailable."""
    path = published(revision)
    return schema_from_models(revision) if path is None else json.loads(path.read_text("utf-8"))


def published(revision: str) -> Path | None:
    """The file of the published schema of `revision`, if it is at hand."""
    return next((p for d in _directories() if (p := d / f"{revision}.json").is_file()), None)


def schema_from_models(revision: str) -> dict[str, Any]:
    """The schema that the pydantic models of mcp-types amount to, its definitions under the same names."""
    where = f"no {revision}.json in {', '.join(map(str, _directories()))} (set {VARIABLE})"
    try:
        import pydantic
        from mcp_types import methods
    except ImportError as error:
        raise Unavailable(f"{where}, and no mcp-types: {error}") from None
    # Two revisions have models of their own.  The others are served by newer models, which know members that the
    # revision does not have, so that they cannot stand in for its schema.
    module = methods.SERVER_NOTIFICATIONS.get(("notifications/message", revision), object).__module__
    if revision.replace("-", "_") not in module:
        raise Unavailable(f"{where}, and mcp-types has no models of that revision")
    adapters = [
        (name, "validation", pydantic.TypeAdapter(value))
        for name, value in vars(importlib.import_module(module)).items()
        if isinstance(value, type(str | int)) or getattr(value, "__module__", None) == module
    ]
    mapped, rest = pydantic.TypeAdapter.json_schemas(adapters, by_alias=True)
    definitions = {name: schema for (name, _), schema in mapped.items() if "$ref" not in schema}
    definitions.update(rest["$defs"])
    definitions.setdefault("EmptyResult", {"$ref": "#/$defs/Result"})
    return {"$schema": _DIALECT_2020, "$defs": _without_nulls(definitions)}


# In the models an absent member is None; on the wire it is absent.
def _without_nulls(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _without_nulls(value) for key, value in schema.items()}
    if schema.get("default", ...) is None and isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [branch for branch in schema["anyOf"] if branch != {"type": "null"}]
        del schema["default"]
    return schema


# -- closing them --


# `allOf` joins the members of its parts, so that the parts stay open and the whole is closed.
def _closed(schema: Any, loose: str) -> Any:
    if isinstance(schema, list):
        return [_closed(item, loose) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "allOf" in schema:
        return {"allOf": [_pointed(part, loose) for part in schema["allOf"]], "unevaluatedProperties": False}
    closed = {key: _closed(value, loose) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        closed["properties"] = {
            name: member if name in ("_meta", "inputSchema", "outputSchema") else _closed(member, loose)
            for name, member in schema["properties"].items()
        }
        if schema["properties"]:
            closed.setdefault("additionalProperties", False)
    return closed


def _pointed(part: dict[str, Any], loose: str) -> dict[str, Any]:
    return {**part, "$ref": loose + part["$ref"]} if "$ref" in part else part


# What the models of mcp-types call InputSchema and OutputSchema has no name in the published schemas.  Extensions add
# members to the filter of a listen stream.
_OPEN = ("MetaObject", "InputSchema", "OutputSchema", "SubscriptionFilter")


def _closed_definitions(definitions: dict[str, Any], loose: str) -> dict[str, Any]:
    closed = {}
    for name, schema in definitions.items():
        closed[name] = schema if name.endswith(_OPEN) else _closed(schema, loose)
        # Up to 2025-06-18 a message's own definition lists its params without the `_meta` that all params have.
        params = closed[name].get("properties", {}).get("params", {})
        if name.endswith(("Request", "Notification")) and "properties" in params:
            params["properties"].setdefault("_meta", {"type": "object"})
    # `{}` is what these results are: 2025-11-25 basic/utilities/ping, "MUST respond promptly with an empty response"
    # SEP-2133, Negotiation: extensions are announced in the `initialize` of earlier revisions as well.
    closed["ServerCapabilities"]["properties"].setdefault("extensions", {"type": "object"})
    closed["EmptyResult"] = {**definitions["Result"], "additionalProperties": False}
    if "JSONValue" in closed:
        closed["JSONValue"] = {}  # the generated definition forgets null and fractions
    return closed


_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("byte")
def _is_base64(value: object) -> bool:
    try:
        return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None
    except (binascii.Error, ValueError):
        return False


@_FORMATS.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]", value) is not None


# -- judging --


class Validator:
    """Judges the messages of one revision.  Get one from `validator(revision)`, which keeps them."""

    def __init__(self, revision: str, schema: Mapping[str, Any] | None = None) -> None:
        schema = load_schema(revision) if schema is None else schema
        self.revision = revision
        self._keyword = "$defs" if "$defs" in schema else "definitions"
        self.definitions: dict[str, Any] = dict(schema[self._keyword])
        loose, self._tight = f"urn:mcp:{revision}:loose", f"urn:mcp:{revision}:tight"
        tight = {"$schema": schema["$schema"], self._keyword: _closed_definitions(self.definitions, loose)}
        resources = [(loose, Resource.from_contents(schema)), (self._tight, Resource.from_contents(tight))]
        self._registry: Registry[Any] = Registry().with_resources(resources).crawl()
        self._class = jsonschema.validators.validator_for(schema)
        self._validators: dict[str, Any] = {}
        self.methods = self._union("ClientRequest")
        self.requests = self._union("ServerRequest")
        self.notifications = self._union("ServerNotification")

    # The methods of a union of messages, and the definition of each.
    def _union(self, name: str) -> dict[str, str]:
        union = self.definitions.get(name, {}).get("anyOf", ())
        names = [branch["$ref"].rpartition("/")[2] for branch in union]
        return {self.definitions[name]["properties"]["method"]["const"]: name for name in names}

    def definition(self, name: str, value: Any) -> list[str]:
        """What is wrong with `value` as the definition `name` of this revision, closed; [] if nothing."""
        if name not in self._validators:
            root = {"$ref": f"{self._tight}#/{self._keyword}/{name}"}
            self._validators[name] = self._class(root, registry=self._registry, format_checker=_FORMATS)
        return [line for error in self._validators[name].iter_errors(value) for line in _explain(error)]

    def problems(self, message: Any, in_reply_to: str | None = None) -> list[str]:
        """What is wrong with a message from the server; [] if nothing.

        `in_reply_to` is the method of the request that it came for: that it answers, or on whose stream it is.
        """
        if not isinstance(message, dict):
            return [f"a message is an object, not {type(message).__name__}"]
        if "method" in message:
            return self._request(message) if "id" in message else self._notification(message, in_reply_to)
        if "error" in message:
            return self._error(message, in_reply_to)
        envelope = "JSONRPCResultResponse" if "JSONRPCResultResponse" in self.definitions else "JSONRPCResponse"
        return self.definition(envelope, message) or self._result(message["result"], in_reply_to)

    def _result(self, result: dict[str, Any], method: str | None) -> list[str]:
        if method not in RESULTS and method not in self.methods:
            return []  # no method of this revision or no known one: the envelope is all there is
        if method not in self.methods:
            return [f"{self.revision} has no {method}: it is answered with an error"]
        name = RESULTS.get(method) or self.methods[method].removesuffix("Request") + "Result"
        if self.revision == E:
            kind = result.get("resultType")
            if kind == "input_required":
                return self._input_required(result, method)
            # 2026-07-28 basic/index, ResultType: "complete", "input_required", or one that an extension defines;
            # the one extension that does is tasks.
            if kind == "task" and method == "tools/call":
                return []
            if kind != "complete":
                return [f"$.resultType: {kind!r} is none that {method} has"]
        wrong = self.definition(name, result)
        # server/utilities/completion, Completion Results: "Maximum 100 items per response"
        if name == "CompleteResult" and not wrong and len(result["completion"]["values"]) > MAX_COMPLETIONS:
            wrong = [f"$.completion.values is too long: more than {MAX_COMPLETIONS}"]
        return wrong

    # 2026-07-28 basic/patterns/mrtr, Server Requirements
    def _input_required(self, result: dict[str, Any], method: str) -> list[str]:
        wrong = self.definition("InputRequiredResult", result)
        if method not in _MAY_ASK:
            wrong.append(f"{method} may not answer input_required")
        if "inputRequests" not in result and "requestState" not in result:
            wrong.append("input_required without inputRequests and requestState")
        return wrong

    def _error(self, message: dict[str, Any], in_reply_to: str | None) -> list[str]:
        wrong = []
        if "JSONRPCErrorResponse" in self.definitions:
            wrong += self.definition("JSONRPCErrorResponse", message)
        else:
            # Those schemas want an id always; 2025-03-26 basic/transports, Sending Messages 4, has "a JSON-RPC error
            # response that has no `id`".
            wrong += self.definition("JSONRPCError", {"id": 0, **message})
        if wrong:
            return wrong
        code = message["error"]["code"]
        if self.revision == E and in_reply_to is not None and "id" not in message:
            wrong.append("an error without the id of the request that it answers")
        # 2026-07-28 basic/index, Error Codes
        reserved = -32099 <= code <= -32020 or code == -32002
        if code in _ERRORS and _ERRORS[code] in self.definitions:
            wrong += self.definition(_ERRORS[code], message)
        elif (self.revision == E and reserved) or code == -32042:
            wrong.append(f"$.error.code: {self.revision} has no {code}")
        return wrong

    def _notification(self, message: dict[str, Any], in_reply_to: str | None) -> list[str]:
        wrong = self.definition("JSONRPCNotification", message)
        method = message["method"]
        if wrong:
            return wrong
        if method in self.notifications:
            wrong = self._body(self.notifications[method], message)
        elif method in _known("ServerNotification") or method in _known("ClientNotification"):
            return [f"{self.revision} has no {method} from the server"]
        return wrong + self._listened(message, in_reply_to) if self.revision == E else wrong

    # 2026-07-28 basic/patterns/subscriptions, Receiving Notifications
    def _listened(self, message: dict[str, Any], in_reply_to: str | None) -> list[str]:
        method, meta = message["method"], (message.get("params") or {}).get("_meta") or {}
        if in_reply_to == "subscriptions/listen":
            if SUBSCRIPTION_ID not in meta:
                return [f"{method} on a listen stream without {SUBSCRIPTION_ID}"]
            if method in ("notifications/progress", "notifications/message"):
                return [f"{method} on a listen stream"]
        elif in_reply_to is not None and method in _LISTENED:
            return [f"{method} on the stream of {in_reply_to}"]
        return []

    def _request(self, message: dict[str, Any]) -> list[str]:
        method = message["method"]
        if method not in self.requests:
            return [f"{self.revision} has no {method} from server to client"]
        return self.definition("JSONRPCRequest", message) or self._body(self.requests[method], message)

    # Up to 2025-06-18 the definition of a message leaves the envelope to another one.
    def _body(self, name: str, message: dict[str, Any]) -> list[str]:
        has = self.definitions[name]["properties"]
        return self.definition(name, {k: v for k, v in message.items() if k in has or k not in ("jsonrpc", "id")})


# The methods of a union in any revision at hand: what is in none of them is an extension's or the author's own.
@cache
def _known(union: str) -> frozenset[str]:
    return frozenset(method for v in map(_validator_or_none, ALL) if v is not None for method in v._union(union))


def _validator_or_none(revision: str) -> Validator | None:
    try:
        return validator(revision)
    except Unavailable:
        return None


# An `anyOf` fails once for each branch: the branch that was meant is the one whose constants fit best.
def _explain(error: jsonschema.ValidationError) -> list[str]:
    if not error.context:
        text = error.message if len(error.message) < 400 else f"{error.message[:200]} ... {error.message[-200:]}"
        return [f"{error.json_path}: {text}"]
    branches: dict[Any, list[jsonschema.ValidationError]] = {}
    for cause in error.context:
        branches.setdefault(cause.schema_path[0], []).append(cause)
    meant = min(branches.values(), key=lambda b: (sum(c.validator in ("const", "type") for c in b), len(b)))
    return [line for cause in meant for line in _explain(cause)]


@cache
def validator(revision: str) -> Validator:
    """The validator of a revision; raises Unavailable."""
    return Validator(revision)


def check_message(revision: str, message: Any, *, in_reply_to: str | None = None) -> None:
    """Raises WireError if `message` is not what `revision` lets a server send; see `Validator.problems`."""
    if wrong := validator(revision).problems(message, in_reply_to):
        text = json.dumps(message, ensure_ascii=True, default=repr)
        raise WireError("\n  ".join([f"not a message of {revision}: {text[:2000]}", *wrong]))


def check_stream(revision: str, messages: Sequence[Any], *, in_reply_to: str | None = None) -> None:
    """Raises WireError if a message is wrong, or their order: all messages of one answer, in the order they came."""
    for message in messages:
        check_message(revision, message, in_reply_to=in_reply_to)
    answers = [i for i, message in enumerate(messages) if "method" not in message]
    if answers and (len(answers) > 1 or answers[0] != len(messages) - 1):
        raise WireError(f"messages after the answer: {messages[answers[0] + 1 :]!r:.2000}")
    if revision == E and in_reply_to == "subscriptions/listen":
        # 2026-07-28 basic/patterns/subscriptions, Acknowledgment: "as the first message"
        first = messages[0].get("method") if messages else None
        if first not in (None, _LISTENED[0]):
            raise WireError(f"a listen stream begins with {first}")
    _check_progress(messages)


# basic/utilities/progress: "The `progress` value MUST increase with each notification"
def _check_progress(messages: Iterable[Any]) -> None:
    last: dict[Any, float] = {}
    for message in messages:
        if message.get("method") == "notifications/progress":
            token, progress = message["params"]["progressToken"], message["params"]["progress"]
            key = (type(token), token)
            if key in last and progress <= last[key]:
                raise WireError(f"progress {progress} after {last[key]} for the token {token!r}")
            last[key] = progress


# -- saying aloud that nothing was checked --


def unavailable() -> dict[str, str]:
    """The revisions that have no schema on this machine, each with the reason."""
    return {revision: reason for revision in ALL if published(revision) is None and (reason := _why_none(revision))}


def _why_none(revision: str) -> str:
    try:
        validator(revision)
    except Unavailable as error:
        return str(error)
    return ""


def checked(revision: str, message: Any, *, in_reply_to: str | None = None) -> bool:
    """`check_message` for helpers: where there is no schema it is False, and the test run's summary says so."""
    try:
        check_message(revision, message, in_reply_to=in_reply_to)
    except Unavailable as error:
        # Shown always and raised never, whatever filters the run has: the test itself can go on without a schema.
        with warnings.catch_warnings():
            warnings.simplefilter("always", SchemaUnavailable)
            warnings.warn(SchemaUnavailable(f"messages of {revision} go by unchecked: {error}"), stacklevel=2)
        return False
    return True
