# SPDX-License-Identifier: MIT
"""The checks of `Logs`."""

from __future__ import annotations

import asyncio

from ..protocol.errors import EventsExpired
from .base import LOG_EVENT_OVERHEAD, MAX_LOG_BYTES, MAX_LOG_EVENTS, Logs, Repeated, Tail, Taken
from .suite import BYTES, LONG, SHORT, STALL, TEXTS, Make, equal, eventually, fleet, fresh, in_time, raises


async def _gone(logs: Logs, session: str, stream: str) -> bool:
    try:
        await logs.read(session, stream, 0)
    except EventsExpired:
        return True
    return False


@in_time
async def check_events_are_read_after_an_index(make: Make) -> None:
    """In order, on every worker, with the state of the log."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await one.open(session, "s", LONG, writer=a.name, about=b"\0about")
        equal(await two.read(session, "s", 0), Tail([], 0, False, a.name, b"\0about", ""), "a log without events")
        equal(await two.read(session, "s", None), Tail([], 0, False, a.name, b"\0about", ""), "a log without events")
        for n in range(1, 6):
            equal(await one.append(session, "s", n, b"%d" % n), "", "there is no reader")
        events = [(n, b"%d" % n) for n in range(1, 6)]
        for after in range(6):
            tail = await two.read(session, "s", after)
            equal(tail, Tail(events[after:], 5, False, a.name, b"\0about", ""), f"the events after {after}")
        equal((await two.read(session, "s", None)).events, events, "without an index: all that are left")
        await raises(EventsExpired, two.read(session, "s", 6), "an event that was never there")
        await raises(EventsExpired, two.read(session, "t", 0), "a stream that is not known")
        await raises(EventsExpired, two.read(session, "t", None), "a stream that is not known")
        await raises(EventsExpired, two.read(fresh(), "s", 0), "a session that is not known")


@in_time
async def check_a_log_can_go_on_after_an_index(make: Make) -> None:
    """Its first event has the next index; what would come before is not there.  One that exists stays as it is."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await one.open(session, "s", LONG, writer=a.name, after=7)
        equal(await two.read(session, "s", 7), Tail([], 7, False, a.name, b"", ""), "a log without events")
        equal(await two.read(session, "s", None), Tail([], 7, False, a.name, b"", ""), "a log without events")
        for after in (0, 6, 8):
            await raises(EventsExpired, two.read(session, "s", after), f"an event after {after}")
        for index in (1, 7, 9):
            await raises(Taken, one.append(session, "s", index, b"x"), f"event {index} is not the next")
        await one.append(session, "s", 8, b"8")
        await two.open(session, "s", LONG, after=20)
        for n in range(9, 8 + MAX_LOG_EVENTS + 2):
            await one.append(session, "s", n, b"%d" % n)
        await raises(EventsExpired, two.read(session, "s", 8), "the oldest events go")
        events = (await two.read(session, "s", 9)).events
        equal((len(events), events[0]), (MAX_LOG_EVENTS, (10, b"10")), "the newest are kept")


@in_time
async def check_an_index_is_taken_once(make: Make) -> None:
    """Not a second time, not with a gap, not without a log; the event stays the first one."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await raises(Taken, one.append(session, "s", 1, b""), "a log that was not opened")
        await one.open(session, "s", LONG)
        for index in (-1, 0, 2, 10**15):
            await raises(Taken, one.append(session, "s", index, b"x"), f"event {index} of an empty log")
        await one.append(session, "s", 1, b"1")
        await two.append(session, "s", 2, b"2")
        for index in (0, 1, 2, 4):
            for logs in (one, two):
                await raises(Taken, logs.append(session, "s", index, b"x", last=True), f"event {index} after 2")
        equal((await one.read(session, "s", 0))[:3], ([(1, b"1"), (2, b"2")], 2, False), "nothing else was kept")


@in_time
async def check_of_writers_that_race_for_an_index_one_wins(make: Make) -> None:
    """For each of fifty indexes, and the log has the events of the winners."""
    async with fleet(make, 2) as workers:
        session = fresh()
        await workers[0].store.logs.open(session, "s", LONG)
        wanted = []
        for index in range(1, 51):
            tries = [(worker.store.logs, b"%d %d" % (index, n)) for worker in workers for n in range(2)]
            done = await asyncio.gather(
                *(logs.append(session, "s", index, data) for logs, data in tries), return_exceptions=True
            )
            won = [data for result, (_, data) in zip(done, tries, strict=True) if result == ""]
            equal(len(won), 1, f"one writer has event {index}")
            equal(sum(isinstance(result, Taken) for result in done), len(tries) - 1, "the others are refused")
            wanted.append((index, won[0]))
        equal((await workers[1].store.logs.read(session, "s", 0)).events, wanted, "the events of the winners")


@in_time
async def check_no_event_follows_the_end(make: Make) -> None:
    """Neither after `finish` nor after an event that was the last; the log can still be read."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        for stream in ("finished", "last"):
            await one.open(session, stream, LONG)
        await one.append(session, "finished", 1, b"1")
        await two.finish(session, "finished", LONG)
        await one.append(session, "last", 1, b"1", last=True)
        for stream in ("finished", "last"):
            await raises(Taken, one.append(session, stream, 2, b"2"), "the log has ended")
            await raises(Taken, two.append(session, stream, 1, b"2"), "the log has ended")
            equal((await two.read(session, stream, 0))[:3], ([(1, b"1")], 1, True), "it can be read")
            equal((await two.read(session, stream, 1))[:3], ([], 1, True), "it has ended")
            await one.open(session, stream, LONG)
            await raises(Taken, one.append(session, stream, 2, b"2"), "`open` begins no log that is there")
        await two.finish(session, "finished", LONG)
        await two.finish(session, "unknown", LONG)
        await raises(EventsExpired, two.read(session, "unknown", 0), "`finish` makes no log")


@in_time
async def check_the_oldest_events_go_past_the_count(make: Make) -> None:
    """All of MAX_LOG_EVENTS are kept; with one more, the first goes."""
    async with fleet(make) as (a,):
        logs, session = a.store.logs, fresh()
        await logs.open(session, "s", LONG)
        for n in range(1, MAX_LOG_EVENTS + 1):
            await logs.append(session, "s", n, b"%d" % n)
        equal(len((await logs.read(session, "s", 0)).events), MAX_LOG_EVENTS, "at the limit")
        await logs.append(session, "s", MAX_LOG_EVENTS + 1, b"new")
        await raises(EventsExpired, logs.read(session, "s", 0), "one past the limit: the first is gone")
        events = (await logs.read(session, "s", 1)).events
        equal((len(events), events[0], events[-1][1]), (MAX_LOG_EVENTS, (2, b"2"), b"new"), "the others are there")
        equal((await logs.read(session, "s", None)).events, events, "without an index: all that are left")


@in_time
async def check_the_oldest_events_go_past_the_bytes(make: Make) -> None:
    """Each event counts with its overhead; the newest stays, however large it is."""
    async with fleet(make) as (a,):
        logs, session = a.store.logs, fresh()
        await logs.open(session, "s", LONG)
        data = b"x" * (MAX_LOG_BYTES // 8 - LOG_EVENT_OVERHEAD)
        for n in range(1, 9):
            await logs.append(session, "s", n, data)
        equal(len((await logs.read(session, "s", 0)).events), 8, "at the limit")
        await logs.append(session, "s", 9, b"")
        await raises(EventsExpired, logs.read(session, "s", 0), "past the limit: the first is gone")
        equal([n for n, _ in (await logs.read(session, "s", 1)).events], [*range(2, 10)], "the others are there")
        await logs.append(session, "s", 10, b"y" * (MAX_LOG_BYTES + 1))
        await raises(EventsExpired, logs.read(session, "s", 8), "a large event pushes all others out")
        equal((await logs.read(session, "s", 9)).events, [(10, b"y" * (MAX_LOG_BYTES + 1))], "it is kept itself")
        await logs.append(session, "s", 11, b"z")
        equal((await logs.read(session, "s", 10)).events, [(11, b"z")], "and goes with the next")
        await raises(EventsExpired, logs.read(session, "s", 9), "it is gone")
        await logs.append(session, "s", 12, b"z")
        equal(len((await logs.read(session, "s", 10)).events), 2, "what is gone counts no more")


@in_time
async def check_several_events_are_kept_together_or_not_at_all(make: Make) -> None:
    """Under the indexes from the first one on; beside single ones; with the end of the log, and the reader told."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await raises(Taken, one.extend(session, "s", 1, [b"1", b"2"]), "a log that was not opened")
        await one.open(session, "s", LONG, writer=a.name)
        for index in (-1, 0, 2):
            await raises(Taken, one.extend(session, "s", index, [b"x", b"x"]), f"event {index} of an empty log")
        equal(await one.extend(session, "s", 1, [b"1", b"", BYTES[3]]), "", "there is no reader")
        equal(await one.append(session, "s", 4, b"4"), "", "a single one follows")
        for index in (3, 4, 6):  # also where a later one would be free
            await raises(Taken, two.extend(session, "s", index, [b"x"] * 3, last=True), f"event {index} after 4")
        tail = await two.read(session, "s", 0, reader=b.name)
        equal(tail.events, [(1, b"1"), (2, b""), (3, BYTES[3]), (4, b"4")], "all of them, and nothing else")
        equal(await one.extend(session, "s", 5, [b"5"]), b.name, "the reader is told")
        equal(await one.extend(session, "s", 6, [b"6", b"7"], last=True), b.name, "the reader is told")
        await raises(Taken, one.extend(session, "s", 8, [b"x", b"x"]), "the log has ended")
        equal((await two.read(session, "s", 5))[:3], ([(6, b"6"), (7, b"7")], 7, True), "the last ones")


@in_time
async def check_several_events_keep_to_the_limits(make: Make) -> None:
    """The oldest ones go, also those that came together with the newest."""
    async with fleet(make) as (a,):
        logs, session = a.store.logs, fresh()
        await logs.open(session, "count", LONG)
        await logs.extend(session, "count", 1, [b"%d" % n for n in range(1, MAX_LOG_EVENTS)])
        await logs.extend(session, "count", MAX_LOG_EVENTS, [b"x", b"y", b"z"])
        tail = await logs.read(session, "count", None)
        equal((tail.events[0], len(tail.events)), ((3, b"3"), MAX_LOG_EVENTS), "the newest ones")
        await logs.open(session, "bytes", LONG)
        large = b"z" * MAX_LOG_BYTES
        await logs.extend(session, "bytes", 1, [b"x", large, b"y"])
        equal((await logs.read(session, "bytes", None)).events, [(3, b"y")], "those that have room")
        await logs.extend(session, "bytes", 4, [b"x", large])
        equal((await logs.read(session, "bytes", None)).events, [(5, large)], "the newest one always")
        fits = (MAX_LOG_BYTES - 2 * LOG_EVENT_OVERHEAD) // 2
        await logs.extend(session, "bytes", 6, [b"u" * fits, b"v" * fits])
        equal([index for index, _ in (await logs.read(session, "bytes", None)).events], [6, 7], "exactly the limit")


@in_time
async def check_the_reader_is_told_to_the_writer(make: Make) -> None:
    """A read with a reader sets it; `append` returns it, and a read returns the one before."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await one.open(session, "s", LONG)
        await one.open(session, "t", LONG)
        equal((await two.read(session, "s", 0, reader=b.name)).reader, "", "there was none")
        equal(await one.append(session, "s", 1, b""), b.name, "the writer learns of the reader")
        equal(await one.append(session, "t", 1, b""), "", "a reader is of one log")
        equal((await one.read(session, "s", 0)).reader, b.name, "a read without a reader tells it")
        equal((await one.read(session, "s", 1, reader=a.name)).reader, b.name, "the one before")
        equal(await two.append(session, "s", 2, b""), a.name, "the newest reader wins")
        await raises(EventsExpired, one.read(session, "s", 9, reader=b.name), "an event that was never there")
        equal((await one.read(session, "s", 2, reader="")).reader, a.name, "a read that fails sets no reader")
        equal(await two.append(session, "s", 3, b"", last=True), "", "nobody reads any more")


@in_time
async def check_an_append_can_leave_a_log_to_its_reader(make: Make) -> None:
    """An append for one reader is done while there is none or that one, and refused while there is another."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await one.open(session, "s", LONG)
        equal(await one.append(session, "s", 1, b"1", reader=a.name), "", "there is no reader")
        await two.read(session, "s", 1, reader=b.name)
        await raises(Taken, one.append(session, "s", 2, b"no", reader=a.name), "another worker reads")
        equal(await two.append(session, "s", 2, b"2", reader=b.name), b.name, "its own reader")
        equal(await one.append(session, "s", 3, b"3"), b.name, "without a reader named: any")
        equal([data for _, data in (await two.read(session, "s", 0)).events], [b"1", b"2", b"3"], "the events")


@in_time
async def check_a_name_is_taken_once(make: Make) -> None:
    """While its event is left: of workers that append the same event one wins.  A name is any text."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await one.open(session, "s", LONG)
        await one.open(session, "t", LONG)
        names = [text for text in TEXTS if text]
        for index, name in enumerate(names, 1):
            await one.append(session, "s", index, b"first", name=name)
        last = len(names)
        for name in names:
            for logs in (one, two):
                await raises(
                    Repeated, logs.append(session, "s", last + 1, b"again", name=name), f"{name!r:.20} is taken"
                )
            await raises(Taken, two.append(session, "s", last, b"x", name=name), "an index that is taken")
        await two.append(session, "t", 1, b"other", name=names[0])  # a name is of one log
        await two.read(session, "s", last, reader=b.name)
        await raises(Taken, one.append(session, "s", last + 1, b"no", reader=a.name, name="new"), "another reads")
        equal(await two.append(session, "s", last + 1, b"new", reader=b.name, name="new"), b.name, "a new name")
        await two.append(session, "s", last + 2, b"")
        await two.append(session, "s", last + 3, b"")  # events without a name are not equal
        equal((await one.read(session, "s", 0)).events[last:], [(last + 1, b"new"), (last + 2, b""), (last + 3, b"")],
              "what was refused is not kept")  # fmt: skip


@in_time
async def check_a_name_goes_with_its_event(make: Make) -> None:
    """It is free when the log has no room for the event any more, or is gone; until then it is not."""
    async with fleet(make) as (a,):
        logs, session = a.store.logs, fresh()
        await logs.open(session, "s", LONG)
        await logs.append(session, "s", 1, b"", name="one")
        await logs.append(session, "s", 2, b"", name="two")
        await logs.extend(session, "s", 3, [b""] * (MAX_LOG_EVENTS - 2))
        for name in ("one", "two"):
            await raises(Repeated, logs.append(session, "s", MAX_LOG_EVENTS + 1, b"", name=name), "it is at the limit")
        await logs.append(session, "s", MAX_LOG_EVENTS + 1, b"")
        await raises(Repeated, logs.append(session, "s", MAX_LOG_EVENTS + 2, b"", name="two"), "the second is left")
        await logs.append(session, "s", MAX_LOG_EVENTS + 2, b"", name="one")
        await raises(Repeated, logs.append(session, "s", MAX_LOG_EVENTS + 3, b"", name="one"), "it is there anew")
        await logs.append(session, "s", MAX_LOG_EVENTS + 3, b"y" * (MAX_LOG_BYTES + 1), name="two")
        await logs.append(session, "s", MAX_LOG_EVENTS + 4, b"", name="one")
        await logs.discard(session, "s")
        await logs.open(session, "s", LONG)
        await logs.append(session, "s", 1, b"", name="one")


@in_time
async def check_no_event_falls_between_a_read_and_its_reader(make: Make) -> None:
    """An event is in the tail that a reader read, or its append returned that reader."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await one.open(session, "s", LONG)
        told: dict[int, str] = {}

        async def write() -> None:
            for n in range(1, 101):
                told[n] = await one.append(session, "s", n, b"")

        writing = asyncio.ensure_future(write())
        tails = [(f"r{n}", await two.read(session, "s", 0, reader=f"r{n}")) for n in range(10)]
        await writing
        for (reader, tail), (_, following) in zip(tails, tails[1:], strict=False):
            equal([n for n, _ in tail.events], [*range(1, tail.last + 1)], "all events until the read")
            between = {told[n] for n in range(tail.last + 1, following.last + 1)}
            equal(between - {reader}, set(), "the events until the next read are told to this reader")
        equal({told[n] for n in range(tails[-1][1].last + 1, 101)} - {"r9"}, set(), "and the rest to the last one")


@in_time
async def check_a_log_is_discarded_alone_or_with_its_session(make: Make) -> None:
    """It takes no event any more; other logs stay."""
    async with fleet(make, 2) as (a, b):
        one, two, session, other = a.store.logs, b.store.logs, fresh(), fresh()
        for name in (session, other):
            for stream in ("s", "t", "u"):
                await one.open(name, stream, LONG, writer=a.name)
                await one.append(name, stream, 1, b"1")
        await two.discard(session, "s")
        await raises(EventsExpired, one.read(session, "s", 0), "it was discarded")
        await raises(Taken, one.append(session, "s", 2, b"2"), "it was discarded")
        equal(len((await one.read(session, "t", 0)).events), 1, "another stream of the session")
        await two.discard(session)
        await two.discard(session)
        await two.discard(fresh(), "s")
        for stream in ("s", "t", "u"):
            await raises(EventsExpired, one.read(session, stream, 0), "the session was discarded")
            await raises(Taken, one.append(session, stream, 2, b"2"), "the session was discarded")
            equal(len((await one.read(other, stream, 0)).events), 1, "another session")
        await one.open(session, "s", LONG)
        equal(await one.read(session, "s", 0), Tail([], 0, False, "", b"", ""), "a new log has nothing of the old one")


@in_time
async def check_two_workers_may_open_one_log(make: Make) -> None:
    """The second `open` changes nothing."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        await one.open(session, "s", LONG, writer=a.name, about=b"first")
        await one.append(session, "s", 1, b"1")
        await two.read(session, "s", 0, reader=b.name)
        await two.open(session, "s", LONG, writer=b.name, about=b"second")
        wanted = Tail([(1, b"1")], 1, False, a.name, b"first", b.name)
        equal(await two.read(session, "s", 0), wanted, "the log of the first")
        await asyncio.gather(*(logs.open(session, "t", LONG) for logs in (one, two) for _ in range(5)))
        await two.append(session, "t", 1, b"")


@in_time
async def check_a_log_ends_after_its_time(make: Make) -> None:
    """After its last event, or after `finish`; a touch helps a log that has not ended, and no other."""
    async with fleet(make) as (a,):
        logs, session = a.store.logs, fresh()
        await logs.open(session, "silent", SHORT)
        await logs.open(session, "touched", STALL)
        await logs.touch([(session, "touched"), (session, "unknown"), (fresh(), "s")], LONG)
        await logs.touch([], LONG)
        await logs.open(session, "finished", LONG)
        await logs.append(session, "finished", 1, b"")
        await logs.finish(session, "finished", SHORT)
        await logs.touch([(session, "finished")], LONG)
        await logs.open(session, "kept", SHORT)
        await logs.finish(session, "kept", LONG)
        await logs.open(session, "written", STALL)
        await logs.touch([(session, "written")], SHORT)
        await logs.append(session, "written", 1, b"")
        for stream in ("silent", "finished"):
            await eventually(lambda: _gone(logs, session, stream), "a log ends")  # noqa: B023
            await raises(Taken, logs.append(session, stream, 1, b""), "a log that is over takes no event")
        equal((await logs.read(session, "written", 0)).last, 1, "an event begins the time of `open` anew")
        await logs.open(session, "untouched", STALL)
        await eventually(lambda: _gone(logs, session, "untouched"), "a log ends")
        equal((await logs.read(session, "touched", 0)).last, 0, "a touched log goes on")
        equal((await logs.read(session, "kept", 0)).finished, True, "a finished log is kept as long as `finish` says")
        await eventually(lambda: _gone(logs, session, "written"), "a log ends after its last event")
        await logs.open(session, "silent", LONG)
        await logs.append(session, "silent", 1, b"")


@in_time
async def check_any_text_is_a_stream_and_any_bytes_are_an_event(make: Make) -> None:
    """A client chooses the id that it resumes from: no two names meet."""
    async with fleet(make, 2) as (a, b):
        one, two, session = a.store.logs, b.store.logs, fresh()
        names = [*((session, text) for text in TEXTS), *((session + text, "s") for text in TEXTS if text)]
        for n, (owner, stream) in enumerate(names):
            await one.open(owner, stream, LONG, writer=stream, about=b"%d" % n)
        await one.touch(names, LONG)
        for n, (owner, stream) in enumerate(names):
            equal((await two.read(owner, stream, 0))[3:5], (stream, b"%d" % n), f"{stream!r:.20} is itself")
        await two.discard(session)
        for owner, stream in names[: len(TEXTS)]:
            await raises(EventsExpired, two.read(owner, stream, 0), "the session was discarded")
        for owner, stream in names[len(TEXTS) :]:
            equal((await two.read(owner, stream, 0)).last, 0, "another session")
            await two.discard(owner)
        await one.open(session, "b", LONG)
        for n, data in enumerate(BYTES, 1):
            await one.append(session, "b", n, data)
        equal([data for _, data in (await two.read(session, "b", 0)).events], [*BYTES], "events come back as they were")


LOG_CHECKS = (
    check_events_are_read_after_an_index,
    check_a_log_can_go_on_after_an_index,
    check_an_index_is_taken_once,
    check_of_writers_that_race_for_an_index_one_wins,
    check_no_event_follows_the_end,
    check_the_oldest_events_go_past_the_count,
    check_the_oldest_events_go_past_the_bytes,
    check_several_events_are_kept_together_or_not_at_all,
    check_several_events_keep_to_the_limits,
    check_the_reader_is_told_to_the_writer,
    check_an_append_can_leave_a_log_to_its_reader,
    check_a_name_is_taken_once,
    check_a_name_goes_with_its_event,
    check_no_event_falls_between_a_read_and_its_reader,
    check_a_log_is_discarded_alone_or_with_its_session,
    check_two_workers_may_open_one_log,
    check_a_log_ends_after_its_time,
    check_any_text_is_a_stream_and_any_bytes_are_an_event,
)
