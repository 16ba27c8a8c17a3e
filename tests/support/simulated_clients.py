# SPDX-License-Identifier: MIT
"""The clients of the simulation, of either era: each request may go to another worker, and each answer is judged.

`simulation` lists the promises that they hold the workers to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

from faulty_store import AWAY, FAILS, HANGS, LATE, LOSES
from rawclient import Event, Legacy, Modern, encode
from simulated_worker import ASK_TIMEOUT, URI
from virtual import Broken, Exchange

from mcp_h11.endpoint.fleet_notices import PASSING_TIME
from mcp_h11.runtime.fleet_keys import MEND_TIME

GONE_ERROR = "The server that ran this call is gone"
LOST_ERROR = "The store has lost events of this call"
SETTLED = 8.0  # seconds after which every worker has noticed a change, in a run with faults
STORE_FAULTS = {FAILS, HANGS, LATE, AWAY, LOSES}
ABILITIES = {"elicitation": {}}


class Gone(Exception):
    """The session is not known any more, and may be gone."""


class Patience:
    """How long a client waits: for the head of an answer, for an event, and in all for one that is refused with 503."""

    def __init__(self, faults: bool) -> None:
        self.head = 12.0 if faults else 1.0
        self.event = 20.0 if faults else 3.0  # more than `ASK_TIMEOUT`
        self.retry = 15.0


class Session:
    """What a client knows of a session of its own."""

    def __init__(self, label: str, number: str, world: Any) -> None:
        self.label = label
        self.id = number
        self.losses = world.losses  # when it was opened
        self.deaths = world.deaths  # when its subscription was made
        self.deleted = False
        self.gone = False  # with the data of the store
        self.moves = 0  # times at which its own stream went on under another id
        self.subscribed = False


class Client:
    """The requests that both eras have in common."""

    def __init__(self, world: Any, name: str, principal: str) -> None:
        self.world = world
        self.name = name
        self.principal = principal
        self.random = Random(f"{world.seed} {name}")
        self.heard_at = 0.0  # of the resource, the last time
        self.heard = 0  # how often
        self.subscribed_at = 0.0  # when the newest subscription was answered
        self.listening = False  # a stream is open now
        self.ends = False
        self._keys = 0
        self._listener: asyncio.Task[None] | None = None

    def new_key(self) -> str:
        self._keys += 1
        return f"{self.name}.{self._keys}"

    def trace(self, *what: Any) -> None:
        self.world.trace(self.name, *what)

    def must(self, holds: object, what: str) -> None:
        """Raises Broken where it does not hold."""
        if not holds:
            raise Broken(f"{self.name}: {what}")

    async def send(
        self, http: str, fields: dict[str, str | None], body: bytes, *, resend: bool = True, worker: Any = None
    ) -> Exchange:
        """Send a request until it is answered with anything but 503; where `resend`, also after a broken connection."""
        world = self.world
        fields = {"Host": "localhost", **fields, "Authorization": f"Bearer {self.principal}"}
        if http == "POST":
            fields["Content-Length"] = str(len(body))
        lines = [f"{http} /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        until = world.loop.now + world.patience.retry
        while True:
            chosen = worker or self.random.choice(world.open_workers)
            exchange: Exchange = world.send(chosen, request)
            try:
                status = await exchange.head(world.patience.head)
            except TimeoutError as exc:
                raise Broken(f"{self.name}: {http} at {chosen.name} has {exc}: {request.decode()}") from None
            self.trace(http, "at", chosen.name, "->", status, fields.get("Last-Event-ID", ""), body.decode()[:160])
            if world.loop.now > until or status not in (0, 503) or (status == 0 and not resend):
                return exchange
            if status == 503:
                self.must(world.kinds, "503, and nothing is wrong")
            await asyncio.sleep(self.random.uniform(0.05, 0.5))

    async def answer(self, exchange: Exchange) -> Any:
        """The message in an answer with one message, JSON or an event; None where the connection broke."""
        patience = self.world.patience.event
        if exchange.headers.get("content-type") != "text/event-stream":
            body = await exchange.whole(patience)
            return json.loads(body) if body and exchange.ended else None
        while (event := await exchange.event(patience)) is not None:
            if event.data:
                return json.loads(event.data)
        return None

    async def until(self, holds: Callable[[], object], limit: float) -> bool:
        """Wait until it holds, at most that long."""
        end = self.world.loop.now + limit
        while not holds():
            if self.world.loop.now >= end:
                return False
            await asyncio.sleep(0.05)
        return True

    async def hears(self) -> None:
        """The resource has changed for the last time, and the listening client knows."""
        touched = self.world.touched.get(URI, 0.0)
        if touched <= self.subscribed_at:
            return
        known = await self.until(lambda: self.heard_at >= touched, 3.0)
        self.must(known, f"did not hear of the change at {touched:.4f}, last heard at {self.heard_at:.4f}")


class LegacyClient(Client):
    """A client of 2025-11-25 with one session, and now and then another one."""

    stays = (0.5, 3.0, 30.0)  # seconds that it reads its own stream at one worker, at most

    def __init__(self, world: Any, number: int) -> None:
        principal = "ann" if number < 2 else "bob"
        Client.__init__(self, world, f"{principal}{number}", principal)
        self._peer = Legacy(0, "2025-11-25")
        self._sessions = 0
        self.session: Session | None = None
        self.newest: str | None = None  # the id of the newest event of the session's own stream

    # --- messages --------------------------------------------------------------------------------------------

    def _fields(self, session: Session | None, last: str | None = None) -> dict[str, str | None]:
        fields: dict[str, str | None] = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": "2025-11-25",
        }
        if session is not None:
            fields["Mcp-Session-Id"] = session.id
        if last is not None:
            fields["Last-Event-ID"] = last
        return fields

    async def post(self, session: Session, message: Any, *, resend: bool = False, worker: Any = None) -> Exchange:
        """POST a message of a session.  Raises Gone."""
        exchange = await self.send("POST", self._fields(session), encode(message), resend=resend, worker=worker)
        return self._known(session, exchange)

    async def get(self, session: Session, last: str | None) -> Exchange:
        """GET a stream of a session.  Raises Gone."""
        return self._known(session, await self.send("GET", self._fields(session, last), b""))

    def _known(self, session: Session, exchange: Exchange) -> Exchange:
        if exchange.status == 404:
            session.gone = self.world.is_lost(session.id, session.losses, exchange.worker)
            self.must(session.deleted or session.gone, "404 for a session that lives")
            raise Gone
        return exchange

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": self.new_key(), "method": method, "params": params}

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.request("tools/call", name=tool, arguments=arguments)

    # --- a schedule ------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """While things go wrong."""
        await asyncio.sleep(self.random.uniform(0.0, 0.5))
        self.session = await self._open()
        self._listener = asyncio.ensure_future(self._listen())
        for _ in range(self.random.randint(2, 5)):
            await asyncio.sleep(self.random.choice((0.0, 0.1, 1.0)) * self.random.random())
            await asyncio.gather(*(self._act() for _ in range(self.random.choice((1, 1, 2)))))
            if self._listener.done():
                self._listener.result()

    async def _act(self) -> None:
        does = self.random.choice(
            (self._count, self._count, self._count, self._ask, self._cancel, self._echo, self._touch, self._be_brief,
             self._intrude)
        )  # fmt: skip
        session = await self._current()
        try:
            await does(session)
        except Gone:
            self.trace("its session is gone")

    async def _current(self) -> Session:
        assert self.session is not None
        if self.session.gone:
            self.session = await self._open()
            self.listening = False  # in that one
        return self.session

    async def _open(self) -> Session:
        """A new session, with `initialized` and a subscription."""
        while True:
            session = await self._opened()
            try:
                await self.post(session, {"jsonrpc": "2.0", "method": "notifications/initialized"}, resend=True)
                session.deaths = self.world.deaths  # before: a worker that takes it may be leaving when it answers
                answered = await self.post(session, self.request("resources/subscribe", uri=URI), resend=True)
                session.subscribed = bool(await self.answer(answered))
                self.subscribed_at = self.world.loop.now
            except Gone:
                continue
            return session

    async def _opened(self) -> Session:
        params = {"protocolVersion": "2025-11-25", "capabilities": ABILITIES, "clientInfo": {"name": self.name}}
        while True:
            losses = self.world.losses
            exchange = await self.send("POST", self._fields(None), encode(self.request("initialize", **params)))
            answer = await self.answer(exchange)
            if exchange.status == 200 and answer is not None:
                self._sessions += 1
                session = Session(f"{self.name}.s{self._sessions}", exchange.headers["mcp-session-id"], self.world)
                session.losses = losses
                return session
            self.must(self.world.kinds, f"no session: {exchange.status} {answer}")
            await asyncio.sleep(0.3)

    # --- calls -----------------------------------------------------------------------------------------------

    async def _echo(self, session: Session) -> None:
        exchange = await self.post(session, self.call("echo", label=session.label))
        answer = await self.answer(exchange)
        if answer is not None and exchange.status == 200:
            self.must(answer["result"]["content"][0]["text"] == session.label, f"a wrong answer: {answer}")

    async def _touch(self, session: Session) -> None:
        await self.post(session, self.call("touch", label=session.label))

    async def _count(self, session: Session) -> None:
        n, pause = self.random.randint(1, 8), self.random.choice((0.0, 0.0, 0.05, 0.4, 1.0))
        call = self.call("count", label=session.label, key=f"k{self._keys}", n=n, pause=pause)
        await Following(self, session, call, self.random.choice((0.0, 0.3, 0.6))).run()

    async def _ask(self, session: Session) -> None:
        call = self.call("ask", label=session.label, key=f"k{self._keys}")
        await Following(self, session, call, self.random.choice((0.0, 0.4))).run()

    async def _cancel(self, session: Session) -> None:
        call = self.call("count", label=session.label, key=f"k{self._keys}", n=40, pause=0.3)
        following = Following(self, session, call, 0.1)
        run = asyncio.ensure_future(following.run())
        await asyncio.sleep(self.random.uniform(0.05, 1.5))
        following.cancelled = True
        losses = self.world.losses
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": call["id"]}}
        try:
            exchange = await self.post(session, cancel, resend=True)
        except Gone:
            await asyncio.wait({run})
            run.exception()  # the same, if it has one
            raise
        if exchange.status == 202:
            key = f"{session.label}/{call['params']['arguments']['key']}"
            stopped = await self.until(lambda: key not in self.world.running, self.world.patience.event)
            self.must(stopped or self.world.losses > losses, f"the cancelled call {key} still runs")
        await run

    async def _be_brief(self, _: Session) -> None:
        """Another session, that is deleted while a call of it runs."""
        session = await self._opened()
        call = self.call("count", label=session.label, key=f"k{self._keys}", n=30, pause=0.3)
        following = Following(self, session, call, 0.0)
        run = asyncio.ensure_future(following.run())
        await asyncio.sleep(self.random.uniform(0.0, 1.0))
        following.cancelled = session.deleted = True
        try:
            if await self._delete(session):
                key = f"{session.label}/{call['params']['arguments']['key']}"
                stopped = await self.until(lambda: key not in self.world.running, SETTLED)
                self.must(stopped, f"the call {key} of a deleted session still runs")
            else:
                following.cancelled = False  # the session may be gone, or not
        finally:
            try:
                await run
            except Gone:
                self.trace("its call is gone with its session")

    async def _delete(self, session: Session) -> bool:
        """Whether it is deleted: then, after a while, no worker knows it."""
        began = self.world.loop.now
        exchange = await self.send("DELETE", self._fields(session), b"")
        if exchange.status not in (204, 404):
            return False
        await asyncio.sleep(SETTLED if self.world.kinds else 0.2)
        for worker in self.world.open_workers:
            try:
                exchange = await self.post(session, self.request("ping"), worker=worker)
            except Gone:
                continue
            # A worker that did not hear of the end may have kept the session anew.
            came_back = self.world.lost_since(began) and self.world.kinds != {LOSES}
            gone = exchange.status in (0, 503) or came_back
            self.must(gone, f"{worker.name} answers {exchange.status} in a deleted session")
        return True

    async def _intrude(self, session: Session) -> None:
        """Answer a question of another session, and ask for its events; nothing may come of it."""
        others = [(label, asked) for label, asked in self.world.questions if label != session.label]
        if others:
            _, asked = self.random.choice(others)
            await self.post(session, {"jsonrpc": "2.0", "id": asked, "result": accepted("stolen")}, resend=True)
        streams = [(label, last) for label, last in self.world.stream_ids if label != session.label]
        if streams:
            _, last = self.random.choice(streams)
            exchange = await self.get(session, last)
            self.must(exchange.status in (0, 400, 503), f"{exchange.status} for a stream of another session")
            exchange.cut()

    # --- the session's own stream ------------------------------------------------------------------------------

    async def _listen(self) -> None:
        session: Session | None = None
        while not self.ends:
            if session is not self.session:
                session, self.newest = self.session, None
            assert session is not None
            try:
                exchange = await self.get(session, self.newest)
            except Gone:
                await asyncio.sleep(0.3)
                continue
            if exchange.status == 400:
                lost = self.world.losses > session.losses
                self.must(lost or (self.world.kinds and self.newest), f"its own stream is refused after {self.newest}")
                self.newest = None
            elif exchange.status == 200:
                await self._read(session, exchange)
            await asyncio.sleep(self.random.uniform(0.0, 0.1))

    async def _read(self, session: Session, exchange: Exchange) -> None:
        """Read the stream for a while, or until it ends."""
        until = self.world.loop.now + self.random.choice(self.stays) * self.random.random()
        loose = False
        while True:
            left = until - self.world.loop.now
            if self.world.over or self.ends:
                left = 0.2
            try:
                event = await exchange.event(max(0.01, left))
            except TimeoutError:
                if self.session is not session:  # it was 404 at another worker, and this client has begun a new one
                    break
                self.listening = True
                if (self.world.over and not self.ends) or (self.world.loop.now < until and not self.ends):
                    continue
                break
            if event is None or self.session is not session:
                break
            self.listening = True
            loose = self._take(session, event, loose)
        self.listening = False
        exchange.cut()

    def _take(self, session: Session, event: Event, loose: bool) -> bool:
        if event.data:
            message = json.loads(event.data)
            self.must(message["method"].startswith("notifications/"), f"no notice: {message}")
            if message["method"] == "notifications/resources/updated":
                self.heard_at = self.world.loop.now
                self.heard += 1
            self.trace("hears", message["method"], event.id or "")
        if not event.id:
            return True
        index = int(event.id.rpartition(".")[2])
        if self.newest is not None:
            stream, _, newest = self.newest.rpartition(".")
            wanted = int(newest) + bool(event.data)
            fits = index == wanted or (loose and index > wanted)
            if not event.id.startswith(stream):  # after a loss it goes on under another id
                session.moves += 1
                fits = session.moves <= self.world.losses - session.losses
            self.must(fits, f"{event.id} follows {self.newest}: {event.data}")
        self.newest = event.id
        return False

    # --- the end ---------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """All is calm: its stream is open, and it knows the last change; then it hears of one more."""
        assert self._listener is not None
        session = await self._current()
        connected = await self.until(lambda: self.listening or self._listener.done(), 8.0)
        if self._listener.done():
            self._listener.result()
        self.must(connected, "its stream does not open")
        if self.world.deaths > session.deaths and self.world.kinds & STORE_FAULTS:
            # The subscription may have waited for the store at a worker that died.
            await self.post(session, self.request("resources/subscribe", uri=URI))
        elif session.subscribed:
            await self.hears()
        await asyncio.sleep(PASSING_TIME)
        if session.subscribed:
            heard, began = self.heard, self.world.loop.now - 1.0  # a change of before may still be on its way
            await self.post(session, self.call("touch", label=session.label))
            await self.hears()
            await asyncio.sleep(1.0)
            times, changes = self.heard - heard, sum(at > began for at in self.world.touches)
            self.must(times <= changes, f"heard {times} times of {changes} changes")

    async def leave(self) -> None:
        """Delete the session, or leave it to its time."""
        assert self._listener is not None and self.session is not None
        self.ends = True
        if self.random.random() < 0.5:
            self.session.deleted = True
            self.must(await self._delete(self.session), "its session cannot be deleted")
        await self._listener


class Following:
    """One call, from its POST to its end, over any number of connections."""

    def __init__(self, client: LegacyClient, session: Session, call: dict[str, Any], cuts: float) -> None:
        self.client = client
        self.session = session
        self.call = call
        self.cuts = cuts  # how often the client cuts the connection: after that share of the events
        self.cancelled = False
        self.prefix = f"{session.label}/{call['params']['arguments']['key']}/"
        self.position = 0  # the number that came last
        self.confirmed = 0  # the number that came with the newest id, or before it
        self.last: str | None = None  # the newest id
        self.answered = False  # a question of it was answered, and the answer was taken
        world = client.world
        self._since = (world.deaths, world.losses)

    async def run(self) -> None:
        client, world = self.client, self.client.world
        exchange = await client.post(self.session, self.call)
        if exchange.status in (0, 503):
            client.must(world.kinds, f"{exchange.status} for a call")
            return
        client.must(exchange.status == 200, f"{exchange.status} for a call")
        if exchange.headers.get("content-type") != "text/event-stream":
            message = await client.answer(exchange)
            if message is not None:
                self._ended(message)
            return
        while not await self._read(exchange):
            if self.last is None:
                # Without its store, a stream has no ids; if its worker leaves then, it ends with that.
                left = world.deaths > self._since[0] and world.kinds & STORE_FAULTS
                silent = exchange.broken or exchange.cut_off or self.cancelled or left
                client.must(silent, "a stream ends without a word")
                return
            await asyncio.sleep(client.random.choice((0.0, 0.1, 1.0)) * client.random.random())
            self.position = self.confirmed
            exchange = await client.get(self.session, self.last)
            if exchange.status != 200:
                self._refused(exchange.status)
                return

    def _refused(self, status: int) -> None:
        client = self.client
        if status == 204:
            client.must(self.cancelled, f"204 after {self.last}, and {self.prefix} has no answer")
        elif status == 400:
            client.must(
                self.session.deleted or client.world.kinds - {"kills", "leaves", "bus"},
                f"{self.prefix} cannot be resumed",
            )
        else:
            client.must(status in (0, 503) and client.world.kinds, f"{status} for {self.last}")
        client.trace(self.prefix, "is refused:", status)

    async def _read(self, exchange: Exchange) -> bool:
        """Read one connection to its end; True where the call is over."""
        client = self.client
        while True:
            event = await self._event(exchange)
            if event is None:
                return False
            over = bool(event.data) and await self._take(json.loads(event.data))
            if event.id:
                self.last, self.confirmed = event.id, self.position
                client.world.stream_ids.append((self.session.label, event.id))
            if over:
                return True
            if client.random.random() < self.cuts:
                exchange.cut()
                return False

    async def _event(self, exchange: Exchange) -> Event | None:
        """The next event.  After a loss of data, a reader hears only late that nothing brings its call back."""
        world = self.client.world
        try:
            return await exchange.event(world.patience.event)
        except TimeoutError as exc:
            left = world.lost_at + SETTLED + MEND_TIME - world.loop.now
            if left <= 0:
                raise Broken(f"{self.client.name}: {self.prefix} has {exc} after {self.last}") from None
        return await exchange.event(left)

    async def _take(self, message: dict[str, Any]) -> bool:
        """Judge a message; True for the end."""
        client = self.client
        method = message.get("method")
        client.trace("gets", json.dumps(message)[:200])
        if method == "notifications/message":
            said = message["params"]["data"]
            wanted = f"{self.prefix}{self.position + 1}"
            client.must(said == wanted, f"{said} comes where {wanted} should")
            self.position += 1
            return False
        if method == "elicitation/create":
            said = message["params"]["message"]
            client.must(said == self.prefix[:-1], f"the question {said} of another call than {self.prefix}")
            await self._answer(message["id"])
            return False
        if method == "notifications/cancelled":
            return False
        client.must(message.get("id") == self.call["id"], f"neither an answer to {self.call['id']}: {message}")
        self._ended(message)
        return True

    async def _answer(self, asked: str) -> None:
        client = self.client
        client.world.questions.append((self.session.label, asked))
        answer = {"jsonrpc": "2.0", "id": asked, "result": accepted(self.prefix)}
        exchange = await client.post(self.session, answer, resend=True)
        self.answered = self.answered or exchange.status == 202

    def _ended(self, message: dict[str, Any]) -> None:
        """The answer came: the right one, or an error that may be."""
        client, world = self.client, self.client.world
        troubled = self._since != (world.deaths, world.losses)
        if "error" in message:
            error = message["error"]
            gone = GONE_ERROR in error["message"] or (LOST_ERROR in error["message"] and world.losses > self._since[1])
            client.must(gone and (troubled or world.kinds - {"late", "bus"}), f"{self.prefix} ends with {error}")
            return
        result, name = message["result"], self.call["params"]["name"]
        text = result["content"][0]["text"]
        if result.get("isError"):
            client.must(name == "ask" and not (self.answered and not troubled), f"{self.prefix} fails: {text}")
            return
        wanted = self.prefix + (self.prefix if name == "ask" else str(self.call["params"]["arguments"]["n"]))
        client.must(text == wanted, f"the result of {self.prefix} is {text}")
        if name == "count":
            client.must(self.position == self.call["params"]["arguments"]["n"], f"{self.position} events came first")


class ModernClient(Client):
    """A client of 2026-07-28: rounds of calls, and a listen stream."""

    def __init__(self, world: Any, number: int) -> None:
        Client.__init__(self, world, f"eve{number}", "eve")
        self._peer = Modern(0, capabilities=ABILITIES)

    async def _post(self, message: dict[str, Any], resend: bool = False) -> Exchange:
        return await self.send("POST", self._peer.headers_for(message), encode(message), resend=resend)

    async def work(self) -> None:
        """While things go wrong."""
        self._listener = asyncio.ensure_future(self._listen())
        for _ in range(self.random.randint(1, 3)):
            await asyncio.sleep(self.random.random())
            await self._play_rounds()
            if self._listener.done():
                self._listener.result()

    async def _play_rounds(self) -> None:
        key = self.new_key()
        arguments = {"label": self.name, "key": key}
        params: dict[str, Any] = {"name": "rounds", "arguments": arguments}
        losses, deaths = self.world.losses, self.world.deaths
        for number in (1, 2, 3):
            answer = await self._play_round(params, number)
            if answer is None or "error" in answer:
                troubled = (losses, deaths) != (self.world.losses, self.world.deaths)
                self.must(self.world.kinds or troubled, f"round {number} of {key} fails: {answer}")
                return
            result = answer["result"]
            if result.get("resultType") != "input_required":
                text = result["content"][0]["text"]
                self.must(text == f"{self.name}/{key}/12" and number == 3, f"the result of {key} is {text}")
                return
            [(name, asked)] = result["inputRequests"].items()
            said = asked["params"]["message"]
            self.must(said == f"{self.name}/{key}/{number}", f"the question {said} in round {number} of {key}")
            params = {
                **params,
                "inputResponses": {name: accepted(str(number))},
                "requestState": result["requestState"],
            }
        raise Broken(f"{self.name}: {key} does not end")

    async def _play_round(self, params: dict[str, Any], number: int) -> Any:
        """The answer to a round; sent twice now and then, as by a proxy that tries again: then the good one."""
        message = self._peer.request("tools/call", params)
        copies = 2 if number > 1 and self.random.random() < 0.5 else 1
        answers = await asyncio.gather(*(self._round_answer(message, number > 1) for _ in range(copies)))
        good = [one for one in answers if one is not None and "error" not in one]
        self.must(len(good) <= 1 or self.world.losses, f"round {number} is played {len(good)} times")
        return good[0] if good else answers[0]

    async def _round_answer(self, message: dict[str, Any], resend: bool) -> Any:
        return await self.answer(await self._post(message, resend=resend))

    async def _listen(self) -> None:
        while not self.ends:
            message = self._peer.request("subscriptions/listen", {"notifications": {"resourceSubscriptions": [URI]}})
            exchange = await self._post(message, resend=True)
            if exchange.status == 200:
                # A client that opens a stream reads the resource anew.
                self.heard_at = self.world.loop.now
                await self._read(exchange)
            await asyncio.sleep(self.random.uniform(0.0, 0.1))

    async def _read(self, exchange: Exchange) -> None:
        until = self.world.loop.now + self.random.choice((2.0, 60.0)) * self.random.random()
        while not self.ends and (self.world.over or self.world.loop.now < until):
            try:
                event = await exchange.event(0.5)
            except TimeoutError:
                self.listening = True
                continue
            if event is None:
                break
            if event.data and json.loads(event.data).get("method") == "notifications/resources/updated":
                self.heard_at = self.world.loop.now
        self.listening = False
        exchange.cut()

    async def look(self) -> None:
        """All is calm: it knows the last change."""
        assert self._listener is not None
        connected = await self.until(lambda: self.listening or self._listener.done(), 8.0)
        if self._listener.done():
            self._listener.result()
        self.must(connected, "its stream does not open")
        await self.hears()

    async def leave(self) -> None:
        """Close the stream."""
        assert self._listener is not None
        self.ends = True
        await self._listener


def accepted(text: str) -> dict[str, Any]:
    """The answer to an elicitation."""
    return {"action": "accept", "content": {"it": text}}


__all__ = ["ASK_TIMEOUT", "LegacyClient", "ModernClient", "Patience"]
