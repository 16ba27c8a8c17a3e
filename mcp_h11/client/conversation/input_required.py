# SPDX-License-Identifier: MIT
"""The rounds of a 2026-07-28 call: questions come back as a result, and the call goes again with the answers.

It refuses a result type that no declared extension has, questions in the results of other methods, and more rounds
than a limit.

Rule: `requestState` is sent back unchanged, with its own call only (2026-07-28 basic/patterns/mrtr, Client
Requirements).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import anyio

from ...protocol.methods import METHODS, QUESTIONS
from ..transports.errors import InvalidAnswer

# Rounds of one call; the official Python, TypeScript and Go clients have the same limit.
MAX_INPUT_ROUNDS = 10
# Questions in one result.
MAX_QUESTIONS = 100
# Seconds before a call is sent again if its result had a state and no question: the server is not ready yet.
ROUND_PAUSE = 0.25
_MAY_ASK = frozenset(name for name, method in METHODS.items() if method.input_required)

AnswerQuestion = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
Again = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def check_result_type(method: str, result: dict[str, Any], extra: Collection[str] = ()) -> bool:
    """Whether the result asks for input.  Raises InvalidAnswer for a result type that this method cannot have.

    "an absent resultType MUST be treated as complete"; "any other value ... MUST be treated as invalid" (basic/index).
    """
    kind = result.get("resultType", "complete")
    if kind == "complete" or (isinstance(kind, str) and kind in extra):
        return False
    if kind == "input_required" and method in _MAY_ASK:
        return True
    raise InvalidAnswer(f"{method} was answered with the result type {str(kind)[:100]!r}")


async def play(
    method: str, result: dict[str, Any], answer: AnswerQuestion, again: Again, *, extra: Collection[str] = ()
) -> dict[str, Any]:
    """Answers the questions of results, and sends the call again, until a result has no question.

    Args:
        result: the result of the first try.
        answer: takes the method and the params of a question and gives its result; an exception of it ends the call.
        again: sends the call again, with these params beside its own.
        extra: result types of extensions that the client declared.

    Raises:
        InvalidAnswer: there are more than MAX_INPUT_ROUNDS rounds, or the result is malformed.
    """
    for _ in range(MAX_INPUT_ROUNDS):
        if not check_result_type(method, result, extra):
            return result
        result = await again(await _answers(result, answer))
    if check_result_type(method, result, extra):
        raise InvalidAnswer(f"{method} still asks for input after {MAX_INPUT_ROUNDS} rounds")
    return result


async def _answers(result: dict[str, Any], answer: AnswerQuestion) -> dict[str, Any]:
    asked, state = result.get("inputRequests") or {}, result.get("requestState")
    if not isinstance(asked, dict) or len(asked) > MAX_QUESTIONS or not (state is None or isinstance(state, str)):
        raise InvalidAnswer("an input_required result is malformed")
    # 2026-07-28 basic/patterns/mrtr: "at least one of inputRequests and requestState".
    if not asked and state is None:
        raise InvalidAnswer("an input_required result has neither questions nor a state")
    # All questions are read before the first is answered: a person is not asked for a result that is refused.
    questions = {key: question_of(value) for key, value in asked.items()}
    params: dict[str, Any] = {}
    if questions:
        params["inputResponses"] = {key: await answer(*question) for key, question in questions.items()}
    else:
        await anyio.sleep(ROUND_PAUSE)
    if state is not None:
        params["requestState"] = state
    return params


def question_of(value: Any) -> tuple[str, dict[str, Any]]:
    """The method and the params of one of `inputRequests`.  Raises InvalidAnswer."""
    method = value.get("method") if isinstance(value, dict) else None
    params = value.get("params", {}) if isinstance(value, dict) else None
    if method not in QUESTIONS or not isinstance(params, dict):
        raise InvalidAnswer(f"the server asks a question that no client answers: {str(method)[:100]!r}")
    return method, params
