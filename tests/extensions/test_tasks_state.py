# SPDX-License-Identifier: MIT
"""A task as a value: hypothesis plays any sequence of steps, and the rules of SEP-2663 hold after each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_h11.extensions import tasks_state as state
from mcp_h11.extensions.tasks_state import MAX_MESSAGE, Over, Task

KEYS = st.sampled_from(["a", "b", "c", "d"])
QUESTION = {"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": {}}}
RESULT = {"resultType": "complete", "content": [{"type": "text", "text": "é"}]}
ENDS = {"completed", "failed", "cancelled"}
# The spec, Task Status State Diagram.
ALLOWED = {
    "working": {"working", "input_required"} | ENDS,
    "input_required": {"working", "input_required"} | ENDS,
    "completed": {"completed"},
    "failed": {"failed"},
    "cancelled": {"cancelled"},
}
# The members of each DetailedTask beside those of every task.
OWN = {"input_required": {"inputRequests"}, "completed": {"result"}, "failed": {"error"}}


def fresh(now: float = 100.0, **members: Any) -> Task:
    return Task("working", now, now, 60.0, "worker", "owner", **members)


class Steps(RuleBasedStateMachine):
    """Steps of the worker and of clients in any order, by clocks that differ."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.task = fresh()
        self.open: dict[str, Any] = {}
        self.given: dict[str, Any] = {}

    def step(self, after: Task) -> None:
        assert after.status in ALLOWED[self.task.status]
        assert after.updated >= self.task.updated and after.created == self.task.created
        if self.task.over:
            assert after is self.task
        self.task = after

    def own(self, step: Any) -> bool:
        """A step of the worker; False where the task was over, which it has to be told."""
        if self.task.over:
            with pytest.raises(Over):
                step(self.task)
            return False
        self.step(step(self.task))
        return True

    @rule(seconds=st.floats(-5, 30))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    @rule(keys=st.sets(KEYS, min_size=1))
    def the_tool_asks(self, keys: set[str]) -> None:
        new = {key: QUESTION for key in keys if key not in self.given and key not in self.open}
        if new and self.own(lambda task: state.asked(task, self.now, new)):
            self.open.update(new)

    @rule(keys=st.sets(KEYS))
    def the_client_answers(self, keys: set[str]) -> None:
        answers = {key: {"action": "accept", "key": key} for key in keys}
        fits = bool(keys & self.open.keys()) and not self.task.over
        before = self.task
        self.step(state.answered(self.task, self.now, {**answers, "never asked": {}}))
        assert (self.task is before) is not fits
        if fits:
            self.given.update({key: answers[key] for key in keys & self.open.keys()})
            for key in keys:
                self.open.pop(key, None)

    @rule(keys=st.sets(KEYS))
    def the_worker_takes_answers(self, keys: set[str]) -> None:
        if self.own(lambda task: state.collected(task, self.now, keys)):
            for key in keys:
                self.open.pop(key, None)
                self.given.pop(key, None)

    @rule(message=st.none() | st.text(max_size=2 * MAX_MESSAGE), done=st.floats(0, 9))
    def the_tool_reports(self, message: str | None, done: float) -> None:
        if self.own(lambda task: state.told(task, self.now, message, (done, None))):
            assert self.task.message == (message if message is None else message[:MAX_MESSAGE])

    @rule()
    def the_tool_returns(self) -> None:
        self.own(lambda task: state.completed(task, self.now, RESULT, 7.0))

    @rule()
    def the_call_fails(self) -> None:
        self.own(lambda task: state.failed(task, self.now, {"code": -32603, "message": "no"}, 7.0))

    @rule()
    def the_client_cancels(self) -> None:
        self.step(state.cancelled(self.task, self.now, 7.0))

    @invariant()
    def the_wire_has_the_members_of_its_state(self) -> None:
        task = self.task
        wire = state.detailed(task, "an id", 0.5)
        usual = {"taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"}
        assert usual <= wire.keys() <= usual | {"statusMessage", "_meta"} | OWN.get(task.status, set())
        assert OWN.get(task.status, set()) <= wire.keys()
        assert type(wire["ttlMs"]) is int and wire["ttlMs"] > 0 and wire["pollIntervalMs"] == 500
        assert wire["createdAt"] == "1970-01-01T00:01:40.000Z"
        made = state.created_result(task, "an id", 0.5)
        assert made["resultType"] == "task" and not made.keys() & {"result", "error", "inputRequests", "task", "ttl"}

    @invariant()
    def open_questions_decide_between_working_and_waiting(self) -> None:
        if self.task.over:
            assert not self.task.asked and not self.task.answers
        else:
            assert dict(self.task.asked) == self.open and dict(self.task.answers) == self.given
            assert self.task.status == ("input_required" if self.open else "working")

    @invariant()
    def a_store_gives_back_an_equal_task(self) -> None:
        assert state.decode(state.encode(self.task)) == self.task

    @invariant()
    def an_end_is_kept_for_the_whole_time(self) -> None:
        if self.task.over:
            assert self.task.left(self.task.updated) == pytest.approx(7.0)


TestSteps = Steps.TestCase
TestSteps.settings = settings(examples(500), stateful_step_count=12)


def test_a_task_that_is_not_readable_is_a_value_error() -> None:
    for data in (b"", b"[]", b"{", b"\xff", b'{"status": "working"}', b"[" * 5000):
        with pytest.raises(ValueError, match="no task"):
            state.decode(data)


def test_members_of_a_newer_version_are_ignored() -> None:
    members = json.loads(state.encode(fresh()))
    assert state.decode(json.dumps({**members, "colour": "red"}).encode()) == fresh()


def test_a_result_that_is_no_json_is_an_error() -> None:
    with pytest.raises(TypeError):
        state.encode(state.completed(fresh(), 1.0, {"content": object()}, 1.0))


def test_progress_is_told_in_meta_while_the_task_runs() -> None:
    task = state.told(fresh(), 101.0, "half", (1, 2))
    assert state.detailed(task, "x", 1)["_meta"] == {"mcp-h11/progress": {"progress": 1, "total": 2}}
    assert state.detailed(task, "x", 1)["statusMessage"] == "half"
    assert "_meta" not in state.detailed(state.completed(task, 102.0, RESULT, 1.0), "x", 1)
    assert state.detailed(state.told(task, 101.0, None, (2, None)), "x", 1)["_meta"] == {
        "mcp-h11/progress": {"progress": 2}
    }
