# SPDX-License-Identifier: MIT
"""`Context`: the caller of a running handler, and ways to speak to the client while the call is under way.

`Context` is the face for users, the same in every revision; `Exchange` is what an era puts behind it.

Rule: a context speaks for one call only, on that call's own stream, and falls silent when the call is over: late
notifications are dropped (2026-07-28 basic/patterns/progress: stop at completion).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from ..protocol.methods import LEVELS, LOG_MESSAGE, PROGRESS
from ..protocol.tracecontext import Trace, read_trace
from .exchange import Exchange
from .questions import Elicit, Elicited, ElicitURL, ListRoots, Question, Sample, Sampled, as_question
from .sessions import ServerSession

if TYPE_CHECKING:
    from typing import Generic

    from typing_extensions import TypeVar as TypeVarWithDefault

    from ..http.auth import Principal
    from .questions import Accepted, Declined

    LifespanT = TypeVarWithDefault("LifespanT", default=Any)

    class _OfLifespan(Generic[LifespanT]):
        """Makes `Context[State]` a type whose `lifespan` is a `State`; a plain `Context` is `Context[Any]`."""

        __slots__ = ()
else:
    LifespanT = Any

    class _OfLifespan:
        """Lets annotations say `Context[State]`, which is `Context` itself at run time."""

        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls


T = TypeVar("T")


class RequestContext(NamedTuple):
    """The value of `Context.request_context`."""

    lifespan_context: Any
    session: ServerSession | None
    request_id: str | int
    meta: dict[str, Any]


class Context(_OfLifespan[LifespanT]):
    """Ask for it in a handler by annotating a parameter with `Context`; the server makes one for each call.

    `Context[State]` says to type checkers that `lifespan` is a `State`.
    """

    __slots__ = ("_question_counts", "_exchange", "_progress")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._question_counts: dict[str, int] | None = None  # how often each question was asked, by its name
        self._progress: float | None = None

    # --- the caller ----------------------------------------------------------------------------------------

    @property
    def request_id(self) -> str | int:
        """The JSON-RPC id, in its own type."""
        return self._exchange.request_id

    @property
    def protocol_version(self) -> str:
        """The revision this call is served in."""
        return self._exchange.revision.name

    @property
    def client_info(self) -> dict[str, Any]:
        """The name and version that the client gives itself: never a reason to trust it."""
        return self._exchange.client_info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        """The capabilities that the client declared."""
        return self._exchange.client_capabilities

    def client_extension(self, identifier: str) -> dict[str, Any] | None:
        """The settings with which the client announced the extension `identifier`; None where it did not."""
        announced = self._exchange.client_capabilities.get("extensions")
        settings = announced.get(identifier) if isinstance(announced, dict) else None
        return settings if isinstance(settings, dict) else None

    @property
    def session(self) -> ServerSession | None:
        """The client's session: `await ctx.session.get(key)`, `set(key, value)`, `delete(key)`, and `.id`.

        None where a client has no session: in 2026-07-28, and on a stateless server.
        """
        return self._exchange.session

    @property
    def principal(self) -> Principal | None:
        """The principal that `verifier` found or `authorize` returned for this request; None where nobody was asked.

        An `authorize` that returns a str or an object of another class gives that; `isinstance` tells it from the rest.
        """
        return self._exchange.principal  # type: ignore[no-any-return]

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP request's fields, names in lower case; empty on stdio.  Client input: no proof of anything."""
        head = self._exchange.headers
        return {n.decode("latin-1"): v.decode("latin-1") for n, v in head.headers} if head is not None else {}

    @property
    def meta(self) -> dict[str, Any]:
        """The request's `_meta`."""
        meta = self._exchange.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def trace(self) -> Trace | None:
        """The W3C trace context of the request, from `_meta` or else its headers; None where it has none."""
        head = self._exchange.headers
        return read_trace(self.meta, head.get_all if head is not None else None)

    @property
    def progress_token(self) -> str | int | None:
        """The token under which the client wants progress reported, or None."""
        token = self.meta.get("progressToken")
        return token if type(token) in (str, int) else None

    @property
    def lifespan(self) -> LifespanT:
        """The value that the server's `lifespan` yielded."""
        return self._exchange.runtime.lifespan  # type: ignore[no-any-return]

    @property
    def server(self) -> Any:
        """The handler that serves this call."""
        return self._exchange.runtime.handler

    @property
    def settings(self) -> Any:
        """The server's settings."""
        return self._exchange.runtime.settings

    @property
    def request_context(self) -> RequestContext:
        """The same under the official SDK's names: `.lifespan_context`, `.session`, `.request_id`, `.meta`."""
        return RequestContext(self.lifespan, self.session, self.request_id, self.meta)

    # --- the client's presence ---------------------------------------------------------------------------

    @property
    def disconnected(self) -> asyncio.Event:
        """Set when the connection that carried this call is lost.

        In 2026-07-28 the call is cancelled then as well; in a legacy session it goes on, and a client that comes back
        for the answer does not clear the event.
        """
        exchange = self._exchange
        # Made at the first use, since nearly no tool looks at it.
        if exchange.disconnected is None:
            exchange.disconnected = asyncio.Event()
            if not exchange.connected:
                exchange.disconnected.set()
        return exchange.disconnected

    async def close_sse_stream(self) -> None:
        """End this call's connection, not the call: the client polls, coming back for the rest after `retry`.

        Does nothing where the client could not come back (2025-11-25 basic/transports, Sending Messages 6).
        """
        await self._exchange.close_stream()

    # --- telling -----------------------------------------------------------------------------------------

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, where the client asked for it; a value that does not rise is left out.

        A call that has a deadline gets its whole time again, whether or not the client asked.

        Args:
            progress: How far the call has come; "MUST increase with each notification" (basic/patterns/progress).
            total: The value of `progress` at the end, if it is known.
            message: A text for the user; left out before 2025-03-26.

        Raises:
            ValueError: NaN or infinity.
        """
        # A number minus itself is 0, unless it is NaN or infinite.
        if progress - progress or (total is not None and total - total):
            raise ValueError(f"progress {progress!r} of {total!r}: JSON has neither NaN nor infinity")
        # Left out and not an error: a tool that repeats a step need not know of the rule.
        if self._progress is not None and progress <= self._progress:
            return
        self._progress = progress
        # Also without a token: the deadline measures the progress, and not whether the client wants to hear of it.
        exchange = self._exchange
        if exchange.deadline is not None:
            exchange.deadline.extend()
        meta = exchange.params.get("_meta")
        token = meta.get("progressToken") if type(meta) is dict else None
        if type(token) is not str and type(token) is not int:
            return
        params: dict[str, Any] = {"progressToken": token, "progress": progress}
        if total is not None:
            params["total"] = total
        # 2025-03-26 added `message`.
        if message is not None and exchange.revision.progress_message:
            params["message"] = message
        await exchange.notify(PROGRESS, params)

    async def log(self, level: str, data: Any, logger: str | None = None, *, logger_name: str | None = None) -> None:
        """Send a log message if the client wants that level.

        Args:
            level: "debug", "info", "notice", "warning", "error", "critical", "alert" or "emergency".
            data: Any JSON value; never a secret.
            logger: A name for the part of the program that speaks; `logger_name` is the same.

        Raises:
            ValueError: There is no such level.
        """
        rank = LEVELS.get(level)
        if rank is None:
            raise ValueError(f"{level!r} is none of {', '.join(LEVELS)}")
        # Before the params are made: a message that is not wanted costs a comparison.
        if not self._exchange.wants_log(rank):
            return
        params: dict[str, Any] = {"level": level, "data": data}
        name = logger or logger_name
        if name is not None:
            params["logger"] = name
        await self._exchange.notify(LOG_MESSAGE, params)

    async def debug(self, data: Any, **kwargs: Any) -> None:
        """`log` these `data` at level debug; `logger` is as for `log`."""
        await self.log("debug", data, **kwargs)

    async def info(self, data: Any, **kwargs: Any) -> None:
        """`log` these `data` at level info; `logger` is as for `log`."""
        await self.log("info", data, **kwargs)

    async def notice(self, data: Any, **kwargs: Any) -> None:
        """`log` these `data` at level notice; `logger` is as for `log`."""
        await self.log("notice", data, **kwargs)

    async def warning(self, data: Any, **kwargs: Any) -> None:
        """`log` these `data` at level warning; `logger` is as for `log`."""
        await self.log("warning", data, **kwargs)

    async def error(self, data: Any, **kwargs: Any) -> None:
        """`log` these `data` at level error; `logger` is as for `log`."""
        await self.log("error", data, **kwargs)

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        """Send a notification of your own, with this `method` and these `params`, on this call's stream."""
        await self._exchange.notify(method, params or {})

    async def notify_tools_changed(self) -> None:
        """Tell every subscriber that the list of tools changed."""
        self.server.notify_tools_changed()

    async def notify_prompts_changed(self) -> None:
        """Tell every subscriber that the list of prompts changed."""
        self.server.notify_prompts_changed()

    async def notify_resources_changed(self) -> None:
        """Tell every subscriber that the list of resources changed."""
        self.server.notify_resources_changed()

    async def notify_resource_updated(self, uri: str) -> None:
        """Tell every subscriber of `uri` that it changed."""
        self.server.notify_resource_updated(str(uri))

    # --- asking ------------------------------------------------------------------------------------------

    @property
    def input_responses(self) -> dict[str, Any] | None:
        """The raw answers to an `InputRequired` of the round before, by its keys; None in the first round."""
        return self._exchange.input_responses

    @property
    def request_state(self) -> str | None:
        """The `state` of the `InputRequired` of the round before, verified; None where there is none."""
        return self._exchange.request_state

    @overload
    async def elicit(self, message: str, schema: type[T]) -> Accepted[T] | Declined[T]: ...

    @overload
    async def elicit(
        self, message: str, schema: Mapping[str, Any]
    ) -> Accepted[dict[str, Any]] | Declined[dict[str, Any]]: ...

    async def elicit(self, message: str, schema: Any) -> Any:
        """Ask the user to fill in a form, and give the answer: an `Elicited`, with `action` and `data`.

        In 2026-07-28 the function ends here and runs again from its start when the answer has come: anything
        that must not happen twice belongs inside `once`.

        Args:
            message: The text above the form.
            schema: A dataclass, TypedDict, pydantic model, or JSON schema: one flat object of texts, numbers, booleans
                and choices.  Never ask for a secret.

        Raises:
            MissingClientCapability: The client cannot ask its user.
        """
        return await self._ask_one(Elicit(message, schema))

    async def elicit_url(self, message: str, url: str, elicitation_id: str | None = None) -> Elicited[None]:
        """Ask the user to open the page at `url`; `message` says why, and `elicitation_id` is as for `ElicitURL`.

        Raises:
            MissingClientCapability: The client cannot show a page to its user.
        """
        return await self._ask_one(ElicitURL(message, url, elicitation_id))  # type: ignore[no-any-return]

    async def sample(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        max_tokens: int = 1024,
        *,
        system_prompt: str | None = None,
        **options: Any,
    ) -> Sampled:
        """Ask the client's model, and give its answer: a `Sampled`, with `text` and `content`.

        Args:
            messages: A text, or sampling messages as the specification has them.
            max_tokens: The most tokens that the answer may have.
            system_prompt: A text that the client may put before the messages.
            options: Further params by their wire names, such as `temperature` and `tools`.

        Raises:
            MissingClientCapability: The client has no model, or none that takes tools.
        """
        return await self._ask_one(Sample(messages, max_tokens, system_prompt, options or None))  # type: ignore[no-any-return]

    async def list_roots(self) -> list[dict[str, Any]]:
        """Ask which folders the user works in: a list of ``{"uri": ..., "name": ...}``.

        Raises:
            MissingClientCapability: The client does not tell.
        """
        return await self._ask_one(ListRoots())  # type: ignore[no-any-return]

    async def ask(self, **questions: Question | Mapping[str, Any]) -> dict[str, Any]:
        """Ask several things at once; the answers come by the same names.

        Args:
            questions: An `Elicit`, `ElicitURL`, `Sample` or `ListRoots` for each name.  A name may be used again in a
                later call, for the same question or another one.

        Raises:
            MissingClientCapability: The client cannot answer one of them.
        """
        if not questions:
            return {}
        keys = {name: self._key(name) for name in questions}
        answers = await self._ask_all({keys[name]: as_question(q) for name, q in questions.items()})
        return {name: answers[key] for name, key in keys.items()}

    async def once(self, key: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Call `fn(*args)`, but only in the first round of this call: later rounds get the result kept under `key`.

        The result has to be JSON.  It travels in the signed state, so it is bound to this call and this principal;
        a client that starts the call anew runs `fn` again.  A round that comes twice runs `fn` at most once: the
        second time this raises InvalidParams, even where the first answer was lost, and the client begins anew.
        """
        exchange = self._exchange
        if exchange.memo is None:
            exchange.memo = {}
        # Claimed before the function runs: where a round comes twice, the second one must not begin it.
        if key not in exchange.memo:
            await exchange.claim()
            value = fn(*args)
            exchange.memo[key] = await value if inspect.isawaitable(value) else value
        return exchange.memo[key]

    async def start_task(self, message: str | None = None) -> bool:
        """Answer the client now with a task, and go on: for a tool with ``task="later"`` (see `MCPServer.add_tool`).

        Ask what has to be known first before this: those questions are rounds of the call, and the function runs again
        for each.  After it the function runs once.  `message` is the first status that the client sees.  Gives False
        where the client has no tasks; then the function goes on as a plain call.
        """
        return await self._exchange.start_task(message)

    async def _ask_one(self, question: Question) -> Any:
        key = self._key("input")
        return (await self._ask_all({key: question}))[key]

    async def _ask_all(self, questions: dict[str, Question]) -> dict[str, Any]:
        deadline = self._exchange.deadline
        if deadline is None:
            return await self._exchange.ask(questions)
        # A person may take longer than the tool may; `ask_timeout` limits the question.
        deadline.hold()
        try:
            return await self._exchange.ask(questions)
        finally:
            deadline.release()

    def _key(self, name: str) -> str:
        # Matched by their order: the n-th question of a name is the n-th in every round.
        if self._question_counts is None:
            self._question_counts = {}
        count = self._question_counts[name] = self._question_counts.get(name, 0) + 1
        return name if count == 1 else f"{name}-{count}"

    # --- threads ----------------------------------------------------------------------------

    async def run_sync(self, fn: Callable[[], T]) -> T:
        """Run a blocking function off the loop, and give its result.

        `fn` takes no arguments.  It runs on the server's own bounded threads, or on the host's thread by `call_in`.
        """
        return await self._exchange.runtime.run_sync(fn, self._exchange.party)

    def wait(self, awaitable: Awaitable[T]) -> T:
        """For sync tools: run an `awaitable` of this context on the loop and wait: ``ctx.wait(ctx.info("half"))``.

        Raises RuntimeError on the loop's own thread, which would wait for itself.
        """
        loop = self._exchange.runtime.loop
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is loop:
            # Python warns of a coroutine that is neither awaited nor closed.
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            raise RuntimeError("ctx.wait is for functions that run in a thread; here, await instead")
        # It takes coroutines alone, and an awaitable need not be one.
        return asyncio.run_coroutine_threadsafe(_await(awaitable), loop).result()


def exchange_of(ctx: Context) -> Exchange:
    """The exchange behind a context.

    The modules of this package that serve a call use it: `dispatch` and the bridge.  A user's handler needs the context
    alone, so it is no attribute of that.
    """
    return ctx._exchange


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable
