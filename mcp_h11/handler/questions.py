# SPDX-License-Identifier: MIT
"""The questions that a server may ask its client during a call: each makes its request and reads its answer.

In a legacy session a question travels as a request to the client; in 2026-07-28 it travels in an `input_required`
result and the answer in the next call (basic/patterns/mrtr).  The words are the same in both, so they are here.

Rule: a question knows its request, the capability of the client that it needs, and how to read the answer.  It does not
know how it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

from ..protocol.methods import QUESTIONS
from ..schema.forms import elicitation_schema, read_elicited
from ..schema.wirewords import in_wire_words, plain

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    DataT = TypeVar("DataT", default=Any)
else:
    from typing import TypeVar

    DataT = TypeVar("DataT")  # `default` is newer than Python 3.10; a checker alone needs it

DEFAULT_MAX_TOKENS = 1024
# 2026-07-28 basic/patterns/mrtr, Server Requirements 2


# A user may hand in an object of their own, so this is a shape and no base class.
class Question(Protocol):
    """One thing to ask.  `method` is elicitation/create, sampling/createMessage or roots/list."""

    @property
    def method(self) -> str: ...

    def params(self) -> dict[str, Any]:
        """The request's params."""
        ...

    def missing(self, capabilities: Mapping[str, Any]) -> dict[str, Any] | None:
        """The capabilities that this question needs and the client did not declare; None if it declared them all."""
        ...

    def read(self, result: Any) -> Any:
        """The answer, `result`, as a value.  Raises ValueError where it has the wrong shape."""
        ...


@dataclass(frozen=True)
class Elicited(Generic[DataT]):
    """How the user answered: `action` is "accept", "decline" or "cancel"; `data` is None unless accepted.

    `data` is `content` as a value of the schema's type; for a plain JSON schema the two are the same.  As a type it is
    `Elicited[Order]`, after a question with the class `Order`.
    """

    action: Literal["accept", "decline", "cancel"]
    data: DataT | None = None
    content: dict[str, Any] | None = None

    @property
    def accepted(self) -> bool:
        """Whether `action` is "accept"."""
        return self.action == "accept"


if TYPE_CHECKING:
    # For a checker an answer is one of these two: after `if answer.action == "accept"` the data cannot be None.
    @dataclass(frozen=True)
    class Accepted(Elicited[DataT]):
        action: Literal["accept"]
        data: DataT
        content: dict[str, Any]

        @property
        def accepted(self) -> Literal[True]: ...

    @dataclass(frozen=True)
    class Declined(Elicited[DataT]):
        action: Literal["decline", "cancel"]
        data: None = None
        content: None = None

        @property
        def accepted(self) -> Literal[False]: ...


@dataclass(frozen=True)
class Sampled:
    """The answer of the client's model: `content` is a content block, or a list of them; `text` has its texts.

    `role` is "assistant", `model` the name of the model, and `stop_reason` why it ended, such as "endTurn".
    """

    role: str
    content: Any
    model: str
    stop_reason: str | None

    @property
    def text(self) -> str:
        """The text blocks, joined."""
        blocks = self.content if isinstance(self.content, list) else [self.content]
        return "".join(b.get("text", "") for b in blocks if isinstance(b, dict) and b.get("type") == "text")


@dataclass(frozen=True)
class Elicit:
    """Ask the user to fill in a form, with `message` above it.

    `schema` is a dataclass, TypedDict, pydantic model, or a JSON schema: one flat object of primitives.  Never ask for
    a secret by form (2025-11-25 client/elicitation); `ElicitURL` is for that.
    """

    message: str
    schema: Any

    method = "elicitation/create"

    def params(self) -> dict[str, Any]:
        # 2025-06-18 has no `mode` and knows forms only; `downgrade` leaves the member out there.
        return {"mode": "form", "message": self.message, "requestedSchema": elicitation_schema(self.schema)}

    def missing(self, capabilities: Mapping[str, Any]) -> dict[str, Any] | None:
        declared = capabilities.get("elicitation")
        # "{}" means form only (2025-11-25 client/elicitation, Capabilities).
        if isinstance(declared, Mapping) and (not declared or "form" in declared):
            return None
        return {"elicitation": {"form": {}}}

    def read(self, result: Any) -> Elicited:
        # 2025-11-25 client/elicitation, Response Actions: the content of other answers is "typically omitted".
        action = _action(result)
        if action != "accept":
            return Elicited(action)
        content = result.get("content")
        if not isinstance(content, dict):
            raise ValueError("an accepted form has content")
        return Elicited(action, read_elicited(self.schema, content), content)


@dataclass(frozen=True)
class ElicitURL:
    """Ask the user to open the page at `url`, and say why by `message`; the client does not see what is typed there.

    Accepting means that the user agreed to open it, no more.  `elicitation_id` is sent where the revision has one.
    """

    message: str
    url: str
    elicitation_id: str | None = None

    method = "elicitation/create"

    def params(self) -> dict[str, Any]:
        params = {"mode": "url", "message": self.message, "url": self.url}
        if self.elicitation_id is not None:
            params["elicitationId"] = self.elicitation_id
        return params

    def missing(self, capabilities: Mapping[str, Any]) -> dict[str, Any] | None:
        declared = capabilities.get("elicitation")
        return None if isinstance(declared, Mapping) and "url" in declared else {"elicitation": {"url": {}}}

    def read(self, result: Any) -> Elicited:
        return Elicited(_action(result))


@dataclass(frozen=True)
class Sample:
    """Ask the client's model.  `messages` is a text, or sampling messages as the specification has them.

    `max_tokens` bounds the answer, and `system_prompt` is a text that the client may put before the messages.
    `options` are further params by their wire names, for example ``{"temperature": 0.2, "tools": [...]}``.
    """

    messages: str | Sequence[Mapping[str, Any]]
    max_tokens: int = DEFAULT_MAX_TOKENS
    system_prompt: str | None = None
    options: Mapping[str, Any] | None = None

    method = "sampling/createMessage"

    def params(self) -> dict[str, Any]:
        # `maxTokens` has no default on the wire, and a text is the shortest way to ask.
        messages: Any = self.messages
        if isinstance(messages, str):
            messages = [{"role": "user", "content": {"type": "text", "text": messages}}]
        params: dict[str, Any] = {"messages": in_wire_words(list(messages)), "maxTokens": self.max_tokens}
        if self.system_prompt is not None:
            params["systemPrompt"] = self.system_prompt
        params.update((name, plain(option)) for name, option in (self.options or {}).items())
        if isinstance(params.get("modelPreferences"), dict):
            params["modelPreferences"] = in_wire_words(params["modelPreferences"])
        return params

    def missing(self, capabilities: Mapping[str, Any]) -> dict[str, Any] | None:
        declared = capabilities.get("sampling")
        if not isinstance(declared, Mapping):
            return {"sampling": {}}
        options = self.options or {}
        # 2025-11-25 client/sampling, Capabilities: tools only for a client that declared sampling.tools.
        if ("tools" in options or "toolChoice" in options) and "tools" not in declared:
            return {"sampling": {"tools": {}}}
        return None

    def read(self, result: Any) -> Sampled:
        if not isinstance(result, dict) or not isinstance(result.get("role"), str):
            raise ValueError("a sampling result has a role")
        content = result.get("content")
        if not isinstance(content, (dict, list)):
            raise ValueError("a sampling result has content")
        # A client may leave the model out, though the specification wants it: the answer is usable without.
        return Sampled(result["role"], content, str(result.get("model", "")), result.get("stopReason"))


@dataclass(frozen=True)
class ListRoots:
    """Ask which folders the user works in.  The answer is advice: check paths all the same."""

    method = "roots/list"

    def params(self) -> dict[str, Any]:
        return {}

    def missing(self, capabilities: Mapping[str, Any]) -> dict[str, Any] | None:
        # An empty object declares the capability, so the value is not asked whether it is true.
        return None if isinstance(capabilities.get("roots"), Mapping) else {"roots": {}}

    def read(self, result: Any) -> list[dict[str, Any]]:
        roots = result.get("roots") if isinstance(result, dict) else None
        if not isinstance(roots, list) or not all(isinstance(r, dict) and isinstance(r.get("uri"), str) for r in roots):
            raise ValueError("a roots result has roots with a uri each")
        return roots


@dataclass(frozen=True)
class RawQuestion:
    """A question that a handler wrote as ``{"method": ..., "params": ...}`` itself; its answer stays a dict."""

    method: str
    raw: Mapping[str, Any]

    def params(self) -> dict[str, Any]:
        return dict(self.raw)

    def missing(self, capabilities: Mapping[str, Any]) -> dict[str, Any] | None:
        return self._typed().missing(capabilities)

    def read(self, result: Any) -> Any:
        if not isinstance(result, dict):
            raise ValueError("an answer is an object")
        # Checked here as well, because a handler relies on `action` to be one of the three.
        if self.method == "elicitation/create":
            _action(result)
        return result

    def _typed(self) -> Question:
        if self.method == "roots/list":
            return ListRoots()
        if self.method == "sampling/createMessage":
            return Sample((), options={k: v for k, v in self.raw.items() if k in ("tools", "toolChoice")})
        # The capability follows from the mode alone, whatever the rest says.
        return ElicitURL("", "") if self.raw.get("mode") == "url" else Elicit("", {})


@dataclass(frozen=True)
class InputRequired:
    """Return it from a tool, prompt or resource to ask by yourself: the call comes again with the answers.

    `requests` maps keys of your choice to questions; the next time `ctx.input_responses` has the raw answers under the
    same keys and `ctx.request_state` has `state`.  The state is signed, so it comes back as it left or not at all;
    the client can read it.  At least one of the two is needed (2026-07-28 basic/patterns/mrtr).
    """

    requests: Mapping[str, Question | Mapping[str, Any]] | None = None
    state: str | None = None

    def __post_init__(self) -> None:
        # "at least one of inputRequests and requestState" (2026-07-28 basic/patterns/mrtr).
        if not self.requests and self.state is None:
            raise ValueError("InputRequired needs requests, a state, or both")
        self.questions()  # a mistake is seen where it was made

    def questions(self) -> dict[str, Question]:
        """The requests as question objects.  Raises ValueError for one that no client can be asked."""
        return {key: as_question(q) for key, q in (self.requests or {}).items()}


def taken(value: Any) -> Any:
    """A returned value; an object of the package `mcp-types` as the dict or the InputRequired that it stands for."""
    found = plain(value)
    # Only an object of that package, and no dict of the user's, which is a result as it stands.
    if isinstance(found, dict) and found is not value and found.get("resultType") == "input_required":
        return InputRequired(found.get("inputRequests"), found.get("requestState"))
    return found


def as_question(question: Question | Mapping[str, Any]) -> Question:
    """A question object as it is; a ``{"method", "params"}`` mapping as a `RawQuestion`.

    Raises ValueError for a method that no client can be asked.
    """
    if isinstance(question, Mapping):
        method = question.get("method")
        if method not in QUESTIONS:
            raise ValueError(f"{method!r} cannot be asked of a client; {', '.join(QUESTIONS)} can")
        return RawQuestion(method, question.get("params") or {})
    return question


def digest(*parts: Any) -> str:
    """A short fingerprint of JSON values: equal values have equal fingerprints, in any order of their keys."""
    import hashlib  # takes half a megabyte, which a server without questions saves

    # Sorted keys: a client may send the members of an object in another order when it repeats the call.
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("ascii"), digest_size=12).hexdigest()


def _action(result: Any) -> Literal["accept", "decline", "cancel"]:
    action = result.get("action") if isinstance(result, dict) else None
    if action not in ("accept", "decline", "cancel"):
        raise ValueError("an elicitation is accepted, declined or cancelled")
    return action  # type: ignore[no-any-return]
