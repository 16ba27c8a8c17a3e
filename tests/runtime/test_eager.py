# SPDX-License-Identifier: MIT
"""The first step of a call in the turn that read it: nothing in a call can tell it from a task of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, within
from serving import ASYNCIO, UVLOOP, call, served, turns

from mcp_h11 import Context, MCPServer
from mcp_h11.runtime.eager import MAX_FREE, Carrier, Eager

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])]

Job = Coroutine[Any, Any, Any]
variable: ContextVar[str] = ContextVar("variable", default="nobody's")


class Starter:
    """Begins jobs from a callback of the loop, as a transport does."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.eager = Eager(self.loop)

    async def start(self, *jobs: Job) -> list[asyncio.Task[Any] | None]:
        """In one turn; the task of each that goes on, None for one that has ended."""
        begun: asyncio.Future[list[asyncio.Task[Any] | None]] = self.loop.create_future()

        def begin() -> None:
            try:
                begun.set_result([self._begin(job) for job in jobs])
            except BaseException as exc:
                begun.set_exception(RuntimeError(repr(exc)))

        self.loop.call_soon(begin)
        return await begun

    def _begin(self, job: Job) -> asyncio.Task[Any] | None:
        task = self.eager.lend()
        assert task is not None
        return task if self.eager.begin(job) else None


@pytest.fixture
async def starter(anyio_backend: Any) -> AsyncIterator[Starter]:
    starter = Starter()
    yield starter
    await within(LIMIT, "end", starter.eager.close())
    await turns()
    assert not [task for task in asyncio.all_tasks() if isinstance(task.get_coro(), Carrier)]


async def test_a_job_that_never_waits_has_ended_before_anything_else_runs(starter: Starter) -> None:
    order: list[str] = []

    async def job(name: str) -> None:
        order.append(name)

    starter.loop.call_soon(order.append, "before")
    assert await starter.start(job("one"), job("two")) == [None, None]
    assert order == ["before", "one", "two"]


async def test_jobs_that_never_wait_share_a_task_and_one_that_waits_keeps_it(starter: Starter) -> None:
    seen: list[int] = []
    release = asyncio.Event()

    async def short() -> None:
        seen.append(id(asyncio.current_task()))

    async def long() -> asyncio.Task[Any] | None:
        first = asyncio.current_task()
        await release.wait()
        assert asyncio.current_task() is first
        return first

    await starter.start(short(), short())
    await turns()  # it has parked
    await starter.start(short())
    assert len(set(seen)) == 1
    one, two = await starter.start(long(), long())
    assert one is not None and two is not None and one is not two
    assert id(one) == seen[0]
    await starter.start(short())
    release.set()
    assert await within(LIMIT, "end", asyncio.wait_for(one, LIMIT)) is one
    assert await two is two


async def test_a_context_is_the_callers_and_nobody_elses(starter: Starter) -> None:
    seen: list[str] = []
    release = asyncio.Event()

    async def job(name: str, wait: bool) -> None:
        seen.append(variable.get())
        variable.set(name)
        if wait:
            await release.wait()
        seen.append(variable.get())

    (_, waiting) = await starter.start(job("a", False), job("b", True))
    assert seen == ["nobody's", "a", "nobody's"]
    await starter.start(job("c", False))
    release.set()
    assert waiting is not None
    await asyncio.wait_for(waiting, LIMIT)
    assert seen[3:] == ["nobody's", "c", "b"]
    assert variable.get() == "nobody's"
    variable.set("the caller's")
    seen.clear()
    await starter.start(job("d", False))
    assert seen == ["the caller's", "d"]


async def test_what_a_job_waits_for_reaches_it(starter: Starter) -> None:
    future: asyncio.Future[int] = starter.loop.create_future()
    failing: asyncio.Future[int] = starter.loop.create_future()

    async def nothing() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "slept"

    async def again() -> int:
        return await future + await future

    async def caught() -> str:
        try:
            await failing
        except ValueError as exc:
            await asyncio.sleep(0)
            return str(exc)
        return ""

    # All in one turn: the futures settle before the tasks of those who wait could look at them.
    tasks = await starter.start(nothing(), again(), again(), caught())
    future.set_result(21)
    failing.set_exception(ValueError("no"))
    assert await asyncio.wait_for(asyncio.gather(*tasks), LIMIT) == ["slept", 42, 42, "no"]  # type: ignore[arg-type]


@pytest.mark.parametrize("later", [False, True])
async def test_a_job_that_waits_for_its_own_task_is_refused(starter: Starter, later: bool) -> None:
    async def job() -> None:
        if later:
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        await task

    (task,) = await starter.start(job())
    assert task is not None
    with pytest.raises(RuntimeError, match="await on itself"):
        await asyncio.wait_for(task, LIMIT)


async def test_who_waits_for_the_task_of_a_job_that_never_waits_hears_of_its_end(starter: Starter) -> None:
    heard: list[Any] = []

    async def job() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda task: heard.append(task.result()))
        return "done"

    for _ in range(3):
        await starter.start(job())
        await turns()
    assert heard == ["done"] * 3


@pytest.mark.parametrize("plain", [False, True])
async def test_a_scope_that_is_cancelled_in_the_turn_of_a_result_loses_no_result(starter: Starter, plain: bool) -> None:
    got: list[str] = []
    future: asyncio.Future[str] = starter.loop.create_future()
    scope = anyio.CancelScope()

    async def job() -> None:
        with scope:
            got.append(await future)
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                got.append("cancelled")
                raise

    def settle() -> None:
        future.set_result("a result")
        scope.cancel()

    task = starter.loop.create_task(job()) if plain else (await starter.start(job()))[0]
    await turns()
    starter.loop.call_soon(settle)
    assert task is not None
    await asyncio.wait_for(task, LIMIT)
    assert got == ["a result", "cancelled"]


async def test_another_task_may_wait_for_the_same_in_the_same_turn(starter: Starter) -> None:
    future: asyncio.Future[str] = starter.loop.create_future()

    async def job() -> str:
        return await future

    other = asyncio.ensure_future(job())
    (task,) = await starter.start(job())
    await turns()
    future.set_result("both")
    assert task is not None
    assert await asyncio.wait_for(asyncio.gather(task, other), LIMIT) == ["both", "both"]


@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("later", [False, True])
async def test_a_cancellation_reaches_the_job_and_what_it_waits_for(
    starter: Starter, parked: bool, later: bool
) -> None:
    ended: list[str] = []
    tasks: list[asyncio.Task[Any] | None] = []
    future: asyncio.Future[None] = starter.loop.create_future()

    async def cancel() -> None:
        assert tasks[0] is not None
        tasks[0].cancel()

    async def job() -> None:
        tasks.append(asyncio.current_task())
        try:
            await future
        except asyncio.CancelledError:
            ended.append("job")
            raise

    if parked:
        await starter.start(_nothing())
        await turns()
    if later:
        await starter.start(job())
        await turns()
        await cancel()
    else:
        await starter.start(job(), cancel())
    (task,) = tasks
    assert task is not None
    await asyncio.wait({task}, timeout=LIMIT)
    assert task.cancelled() and future.cancelled() and ended == ["job"]


async def test_a_job_may_survive_its_cancellation(starter: Starter) -> None:
    async def job() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "survived"

    (task,) = await starter.start(job())
    assert task is not None
    task.cancel()
    assert await asyncio.wait_for(task, LIMIT) == "survived"


Act = Callable[[asyncio.Task[Any], "asyncio.Future[str]"], object]
# Things that befall a job that waits for a future, in one turn of the loop.
BEFALLS: dict[str, Act] = {
    "a result": lambda task, future: future.set_result("result"),
    "an error": lambda task, future: future.set_exception(ValueError("error")),
    "a cancellation": lambda task, future: task.cancel("why"),
    "two cancellations": lambda task, future: (task.cancel("one"), task.cancel("two")),
    "a cancellation before a result": lambda task, future: (task.cancel(), future.done() or future.set_result("late")),
    "a cancellation after a result": lambda task, future: (future.set_result("lost"), task.cancel()),
    "a cancellation of the future": lambda task, future: future.cancel(),
}


def waits_plainly(future: asyncio.Future[str], said: list[str]) -> Job:
    async def job() -> str:
        try:
            return await future
        finally:
            said.append("ended")

    return job()


def waits_for_a_task(future: asyncio.Future[str], said: list[str]) -> Job:
    async def inner() -> str:
        try:
            return await future
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            said.append("cleaned up")
            raise

    async def job() -> str:
        try:
            return await asyncio.ensure_future(inner())
        finally:
            said.append("ended")

    return job()


def waits_for_a_task_that_stays(future: asyncio.Future[str], said: list[str]) -> Job:
    async def inner() -> str:
        try:
            return await future
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "stayed"

    async def job() -> str:
        return await asyncio.ensure_future(inner()) + "!"

    return job()


def waits_behind_a_shield(future: asyncio.Future[str], said: list[str]) -> Job:
    async def job() -> str:
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            said.append("the future is cancelled" if future.cancelled() else "the future goes on")
            raise

    return job()


def goes_on_after_it(future: asyncio.Future[str], said: list[str]) -> Job:
    async def job() -> str:
        for _ in range(2):
            try:
                said.append(await future)
            except (asyncio.CancelledError, ValueError) as exc:
                said.append(type(exc).__name__)
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                said.append("too late")
        return "went on"

    return job()


def waits_for_many(future: asyncio.Future[str], said: list[str]) -> Job:
    async def job() -> list[str]:
        other: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: other.done() or other.set_result("other"))
        try:
            return await asyncio.gather(future, other)
        finally:
            said.append("other is cancelled" if other.cancelled() else "other")

    return job()


JOBS = (
    waits_plainly,
    waits_for_a_task,
    waits_for_a_task_that_stays,
    waits_behind_a_shield,
    goes_on_after_it,
    waits_for_many,
)


@pytest.mark.parametrize("turns_before", [0, 1, 2])
@pytest.mark.parametrize("befalls", BEFALLS)
@pytest.mark.parametrize("job", JOBS)
async def test_a_job_ends_as_a_task_of_its_own_would(
    starter: Starter, job: Callable[..., Job], befalls: str, turns_before: int
) -> None:
    outcomes = []
    for eager in (True, False):
        said: list[str] = []
        future: asyncio.Future[str] = starter.loop.create_future()
        made = job(future, said)
        if eager:
            (task,) = await starter.start(made)
        else:
            task = asyncio.ensure_future(made)
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # until this test goes on a task that the job has made has begun, as with `start`
        assert task is not None
        for _ in range(turns_before):
            await asyncio.sleep(0)
        BEFALLS[befalls](task, future)
        await asyncio.wait({task}, timeout=LIMIT)
        outcome = "cancelled" if task.cancelled() else repr(task.exception() or task.result())
        outcomes.append((outcome, said, future.cancelled()))
    assert outcomes[0] == outcomes[1]


def cancel_myself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def returns_at_once(said: list[str]) -> str:
    cancel_myself()
    return "returned"


async def gives_up_at_once(said: list[str]) -> str:
    cancel_myself()
    raise asyncio.CancelledError


async def waits_for_what_has_come(said: list[str]) -> str:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    loop.call_soon(lambda: future.done() or future.set_result("come"))
    cancel_myself()
    return await future


async def waits_for_what_cleans_up(said: list[str]) -> str:
    async def inner() -> None:
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            said.append("cleaned up")
            raise

    task = asyncio.ensure_future(inner())
    await asyncio.sleep(0.001)
    cancel_myself()
    try:
        await task
    finally:
        said.append("ended")
    return ""


@pytest.mark.parametrize("then", [returns_at_once, gives_up_at_once, waits_for_what_has_come, waits_for_what_cleans_up])
async def test_a_job_that_cancels_its_own_task_ends_as_a_task_of_its_own_would(
    starter: Starter, then: Callable[[list[str]], Coroutine[Any, Any, str]]
) -> None:
    async def job() -> str:
        await asyncio.sleep(0.001)  # from here on callbacks step it
        return await then(said)

    outcomes = []
    for eager in (True, False):
        said: list[str] = []
        (task,) = await starter.start(job()) if eager else [asyncio.ensure_future(job())]
        assert task is not None
        await asyncio.wait({task}, timeout=LIMIT)
        outcomes.append((task.cancelled() or task.result(), said))
    assert outcomes[0] == outcomes[1]


async def test_what_a_job_raises_that_cancelled_its_task_is_logged(
    starter: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    async def job() -> None:
        await asyncio.sleep(0.001)
        cancel_myself()
        raise ValueError("lost otherwise")

    (task,) = await starter.start(job())
    assert task is not None
    await asyncio.wait({task}, timeout=LIMIT)
    assert task.cancelled() and "lost otherwise" in caplog.text


async def test_what_ends_the_process_is_passed_on_by_a_later_step_as_well(starter: Starter) -> None:
    future: asyncio.Future[None] = starter.loop.create_future()

    async def leaves() -> None:
        await future
        raise SystemExit(3)

    (task,) = await starter.start(leaves())
    assert task is not None
    carrier: Any = task.get_coro()
    raised: asyncio.Future[object] = starter.loop.create_future()

    def step() -> None:
        """In place of the loop, which would end by it."""
        try:
            carrier._go_on(future)
        except SystemExit as exc:
            raised.set_result(exc.code)

    starter.loop.call_soon(step)
    future.set_result(None)
    assert await within(LIMIT, "the step", raised) == 3
    await asyncio.wait({task}, timeout=LIMIT)
    assert task.done() and task.exception() is None
    assert await starter.start(_nothing()) == [None]


async def test_a_future_of_another_loop_is_refused(starter: Starter) -> None:
    other = asyncio.new_event_loop()
    try:

        async def job() -> str:
            try:
                await other.create_future()
            except RuntimeError as exc:
                return str(exc)
            return ""

        (task,) = await starter.start(job())
        assert task is not None
        assert "attached to a different loop" in await asyncio.wait_for(task, LIMIT)
    finally:
        other.close()


async def test_tasks_of_jobs_that_waited_are_lent_again_up_to_a_number(starter: Starter) -> None:
    names: list[str] = []
    release = asyncio.Event()

    async def job() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        await release.wait()

    async def at_once(count: int) -> set[str]:
        """The names of the tasks of so many jobs that wait together."""
        names.clear()
        release.clear()
        await starter.start(*[job() for _ in range(count)])
        release.set()
        await turns()
        return set(names)

    first = await at_once(MAX_FREE)
    assert len(first) == MAX_FREE
    assert await at_once(MAX_FREE) == first
    assert len(await at_once(MAX_FREE + 1) & first) == MAX_FREE
    alive = [task for task in asyncio.all_tasks() if isinstance(task.get_coro(), Carrier)]
    assert len(alive) == MAX_FREE
    del alive
    assert len(await at_once(MAX_FREE)) == MAX_FREE


async def test_what_follows_a_job_has_nothing_of_its_context(starter: Starter) -> None:
    seen: list[str] = []
    future: asyncio.Future[None] = starter.loop.create_future()

    async def job() -> None:
        variable.set("the job's")
        await future
        seen.append(variable.get())

    def begin() -> None:
        assert starter.eager.lend() is not None
        carrier = starter.eager.begin(job())
        assert carrier is not None
        carrier.ended = lambda exc: seen.append(variable.get())

    starter.loop.call_soon(begin)
    await turns()
    future.set_result(None)
    await turns()
    assert seen == ["the job's", "nobody's"]


async def test_scopes_opened_in_the_first_step_hold_after_it(starter: Starter) -> None:
    async def scope() -> bool:
        with anyio.move_on_after(0.01) as opened:
            await anyio.sleep(LIMIT)
        return opened.cancelled_caught

    async def group() -> list[str]:
        said: list[str] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asyncio.sleep, LIMIT)
            await asyncio.sleep(0)
            tasks.cancel_scope.cancel()
            said.append("cancelled")
        return said

    async def failing() -> str:
        async def fail() -> None:
            raise ValueError("inside")

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail)
                await anyio.sleep(LIMIT)
        except Exception as exc:
            return type(exc).__name__
        return ""

    jobs = [scope(), group(), failing()]
    if sys.version_info >= (3, 11):

        async def timeout() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(LIMIT)
            except TimeoutError:
                return "timed out"
            return ""

        jobs.append(timeout())
    tasks = await starter.start(*jobs)
    ended = await asyncio.wait_for(asyncio.gather(*tasks), LIMIT)  # type: ignore[arg-type]
    assert ended[:3] == [True, ["cancelled"], "ExceptionGroup"] and ended[3:] in ([], ["timed out"])


KEEPERS: dict[str, Callable[[list[Any], asyncio.Task[Any]], object]] = {
    "a reference": lambda kept, task: kept.append(task),
    "a weak one": lambda kept, task: kept.append(weakref.WeakKeyDictionary({task: 1})),
    "a callback": lambda kept, task: task.add_done_callback(kept.append),
    "a cancellation": lambda kept, task: task.cancel(),
    "a reference and a cancellation": lambda kept, task: (kept.append(task), task.cancel()),
}


@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("keep", KEEPERS)
async def test_a_task_that_somebody_has_kept_is_not_lent_again_and_ends(
    starter: Starter, keep: str, at_once: bool, parked: bool
) -> None:
    kept: list[Any] = []
    names: list[str] = []

    async def short(keeping: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())  # not itself: that would be to keep it
        if keeping:
            KEEPERS[keep](kept, task)

    if parked:
        await starter.start(_nothing())
        await turns()
    if at_once:
        await starter.start(short(True), short(False))
    else:
        await starter.start(short(True))
        await turns()
        await starter.start(short(False))
    first, second = names
    assert first != second
    await turns()
    assert first not in {task.get_name() for task in asyncio.all_tasks()}
    assert keep not in ("a callback", "a reference") or kept[0].get_name() == first
    assert keep != "a reference and a cancellation" or kept[0].cancelled()


async def _nothing() -> None:
    pass


async def test_what_a_lent_task_runs_is_nobody_elses_to_await(starter: Starter) -> None:
    with pytest.raises(RuntimeError, match="belongs to a task"):
        await Carrier(starter.eager)


async def test_a_carrier_may_be_closed_with_a_job_and_without(starter: Starter) -> None:
    ended: list[str] = []

    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    begun = job()
    carrier, task = Carrier(starter.eager), asyncio.current_task()
    assert task is not None
    carrier.take(task, begun, lambda step, *args: step(*args), begun.send(None))
    carrier.close()
    Carrier(starter.eager).close()
    assert ended == ["closed"]


async def test_within_a_task_nothing_is_lent(starter: Starter) -> None:
    assert starter.eager.lend() is None


async def test_a_loop_with_a_task_factory_makes_its_own_tasks(starter: Starter) -> None:
    starter.loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs))
    lent: asyncio.Future[Any] = starter.loop.create_future()
    starter.loop.call_soon(lambda: lent.set_result(starter.eager.lend()))
    assert await lent is None
    starter.loop.set_task_factory(None)


async def test_what_a_job_raises_is_logged_and_the_next_one_runs(
    starter: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    async def bad() -> None:
        raise ValueError("at once")

    async def gives_up() -> None:
        raise asyncio.CancelledError

    async def good() -> None:
        seen.append("good")

    seen: list[str] = []
    with caplog.at_level(logging.ERROR):
        assert await starter.start(bad(), gives_up(), good()) == [None, None, None]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
    assert seen == ["good"]


async def test_what_ends_the_process_is_passed_on_and_the_next_job_runs(starter: Starter) -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await starter.start(leaves())
    assert await starter.start(_nothing()) == [None]


@pytest.mark.parametrize("how", ["returns", "fails", "is cancelled", "is cancelled at once"])
async def test_the_end_of_a_job_that_waited_is_told_in_its_last_step(starter: Starter, how: str) -> None:
    order: list[str] = []
    future: asyncio.Future[None] = starter.loop.create_future()

    async def job() -> None:
        try:
            await future
        finally:
            starter.loop.call_soon(order.append, "the next turn")
            order.append("last step")
        if how == "fails":
            raise ValueError

    def begin() -> None:
        assert starter.eager.lend() is not None
        carrier = starter.eager.begin(job())
        assert carrier is not None
        carrier.ended = lambda exc: order.append(type(exc).__name__)
        task = next(task for task in asyncio.all_tasks() if task.get_coro() is carrier)
        if how == "is cancelled at once":  # before the task has had a step
            task.cancel()
        begun.set_result(task)

    begun: asyncio.Future[asyncio.Task[Any]] = starter.loop.create_future()
    starter.loop.call_soon(begin)
    task = await begun
    await turns()
    if how == "is cancelled":
        task.cancel()
    elif how != "is cancelled at once":
        future.set_result(None)
    await asyncio.wait({task}, timeout=LIMIT)
    raised = {"returns": "StopIteration", "fails": "ValueError"}.get(how, "CancelledError")
    assert order == ["last step", raised, "the next turn"]
    assert task.cancelled() if raised == "CancelledError" else type(task.exception()).__name__ in (raised, "NoneType")


async def test_calls_leave_nothing_for_the_garbage_collector(anyio_backend: Any) -> None:
    async with served() as server, Legacy(server.port, "2025-11-25") as session:
        await session.call("tools/call", call("echo", text="warm"))
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await session.call("tools/call", call("echo", text="hello"))
            made = [one for one in gc.get_objects(generation=0) if type(one).__module__ in OURS]
        finally:
            gc.enable()
        assert not made


OURS = (
    "mcp_h11.eras.asking",
    "mcp_h11.eras.session",
    "mcp_h11.eras.session_methods",
    "mcp_h11.http.reply",
    "mcp_h11.eras.modern",
    "mcp_h11.endpoint.modern",
    "mcp_h11.endpoint.calls",
    "mcp_h11.handler.context",
    "mcp_h11.runtime.eager",
)


class Timed(MCPServer):
    """Tools that use what asyncio keeps by task."""

    def __init__(self) -> None:
        super().__init__("timed")
        self.tasks: list[str] = []
        self.tool(self.scoped)
        self.tool(self.named)

    async def scoped(self, ctx: Context, seconds: float = 0.01) -> str:
        with anyio.move_on_after(seconds) as scope:
            await ctx.info("before")
            await anyio.sleep(LIMIT)
        await ctx.info("after")
        return f"cancelled {scope.cancelled_caught}"

    async def named(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task.get_name())
        return variable.get()


async def test_over_http_a_call_times_out_by_a_scope_of_its_own(anyio_backend: Any) -> None:
    async with served(Timed()) as server, Legacy(server.port, "2025-11-25") as session:
        for _ in range(3):
            answer = await session.call("tools/call", call("named"))
            assert answer.result["content"] == [{"type": "text", "text": "nobody's"}]
            answer = await session.call("tools/call", call("scoped"))
            assert answer.result["content"] == [{"type": "text", "text": "cancelled True"}]
        assert server.runtime.gate.inside == 0 and not server.runtime.tasks
