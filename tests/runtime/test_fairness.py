# SPDX-License-Identifier: MIT
"""How a limit is divided: the share of each party, the turn of each, and who holds most."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_h11.runtime.fairness import ALPHA, LOOKED_AT, Holdings, Shares, Turns, party_of

PARTIES = st.sampled_from(["a", "b", "c", "d"])


# --- the party ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one, other",
    [
        ("2001:db8::1", "2001:db8::ffff:1"),  # one subscriber has the whole /64
        ("fe80::1%eth0", "fe80::2"),
        ("::ffff:192.0.2.1", "192.0.2.1"),  # the socket of both families, and that of one
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_addresses_of_one_client_are_one_party(one: str, other: str) -> None:
    assert party_of("", one) == party_of("", other)


@pytest.mark.parametrize(
    "one, other", [("2001:db8::1", "2001:db8:0:1::1"), ("192.0.2.1", "192.0.2.2"), ("::ffff:192.0.2.1", "192.0.2.2")]
)
def test_addresses_of_two_clients_are_two_parties(one: str, other: str) -> None:
    assert party_of("", one) != party_of("", other)


def test_a_principal_is_one_party_wherever_it_is_and_never_an_address() -> None:
    assert party_of("anna", "192.0.2.1") == party_of("anna", "2001:db8::1") != party_of("berta", "192.0.2.1")
    assert party_of("192.0.2.1", "192.0.2.9") != party_of("", "192.0.2.1")


def test_what_has_no_address_is_the_party_that_has_everything() -> None:
    assert party_of("", "") == ""
    assert party_of("", "no address: at all") == "no address: at all"


# --- shares ------------------------------------------------------------------------------------------------------


def filled(shares: Shares, party: str) -> int:
    """How many places one party gets, if it takes all that it can."""
    for number in range(10_000):
        if not shares.take(party):
            return number
    raise AssertionError("no limit was met")


@pytest.mark.parametrize(("limit", "alone"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (10, 8), (100, 80), (1_000, 800)])
def test_one_party_alone_gets_four_fifths_and_of_a_small_limit_everything(limit: int, alone: int) -> None:
    assert filled(Shares(limit), "a") == alone


def test_each_next_party_finds_room_and_gets_its_share_of_what_is_left() -> None:
    shares = Shares(100)
    assert [filled(shares, party) for party in "abcd"] == [80, 16, 4, 0]


def test_equal_parties_that_take_in_turn_get_equal_shares_and_leave_room() -> None:
    shares = Shares(100)
    for _ in range(100):
        for party in "abcd":
            shares.take(party)
    assert all(abs(shares.held(party) - 100 * ALPHA / (ALPHA * 4 + 1)) < 1 for party in "abcd")
    assert shares.may("e")


def test_a_party_that_holds_nothing_gets_the_last_free_place() -> None:
    shares = Shares(3)
    assert shares.take("a") and shares.take("a")
    assert shares.take("b")
    assert not shares.may("c") and not shares.may("a")
    shares.give_back("a")
    assert shares.take("c")


def test_the_party_without_a_name_has_the_whole_limit_and_no_more() -> None:
    assert filled(Shares(100), "") == 100


def test_without_a_limit_everything_is_granted() -> None:
    shares = Shares(None)
    assert shares.take("a", 10**12) and shares.take("a", 10**12) and shares.held("a") == 2 * 10**12


def test_bytes_are_divided_as_places_are() -> None:
    shares = Shares(1_000)
    assert shares.take("a", 500) and shares.take("a", 300)
    assert not shares.take("a", 100)  # 900 would be more than 4 x 200
    assert shares.take("b", 200) and not shares.take("c", 1)


def test_what_is_larger_than_the_limit_is_granted_only_where_nothing_else_is_taken() -> None:
    shares = Shares(100)
    assert shares.take("a", 500)
    assert not shares.take("b", 1)
    shares.give_back("a", 500)
    assert shares.take("b", 1) and not shares.take("a", 500)
    assert len(shares) == 1


@given(st.lists(st.tuples(PARTIES, st.integers(1, 60), st.booleans()), max_size=60), st.integers(1, 100))
def test_shares_never_exceed_the_limit_and_always_return_to_nothing(
    steps: list[tuple[str, int, bool]], limit: int
) -> None:
    shares, held = Shares(limit), list[tuple[str, int]]()
    for party, size, takes in steps:
        if takes:
            alone = not held
            if shares.take(party, size):
                held.append((party, size))
            else:
                assert not alone
        elif held:
            shares.give_back(*held.pop())
        sizes = Counter[str]()
        for one, amount in held:
            sizes[one] += amount
        assert shares.total == sum(sizes.values()) and len(shares) == len(sizes)
        assert shares.total <= limit or len(held) == 1
    for one in held:
        shares.give_back(*one)
    assert (shares.total, len(shares)) == (0, 0)


# --- turns -------------------------------------------------------------------------------------------------------


def test_parties_that_wait_have_turns_in_rotation() -> None:
    turns = Turns[str](1)
    assert turns.enter("a")
    for waiter in ("a1", "a2", "a3", "b1", "b2", "c1"):
        turns.join(waiter[0], waiter)
    order = []
    holder = "a"
    for _ in range(6):
        turns.give_back(holder)
        ((_, waiter),) = turns.admitted()
        order.append(waiter)
        holder = waiter[0]
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert turns.waiting == 0


def test_who_waits_is_not_overtaken_by_its_own_party_but_by_one_that_has_room() -> None:
    turns = Turns[str](10)
    assert filled(turns, "a") == 8
    turns.join("a", "a1")
    assert not turns.enter("a")
    assert turns.enter("b")
    turns.quit("a", "a1")
    assert list(turns.admitted()) == [] and turns.waiting == 0


def test_a_party_over_its_share_is_passed_over_and_not_forgotten() -> None:
    turns = Turns[str](10)
    assert filled(turns, "a") == 8
    turns.join("a", "a1")
    turns.join("b", "b1")
    assert list(turns.admitted()) == [("b", "b1")]
    for _ in range(3):
        turns.give_back("a")
    assert list(turns.admitted()) == [("a", "a1")]


def test_who_is_in_no_line_leaves_none() -> None:
    turns = Turns[str](1)
    turns.quit("a", "a1")
    turns.join("a", "a1")
    turns.quit("a", "a2")
    turns.join("a", "a2")
    turns.quit("a", "a1")
    assert list(turns.admitted()) == [("a", "a2")]
    assert turns.next() is None


@settings(max_examples=60, stateful_step_count=60)
class TurnsMachine(RuleBasedStateMachine):
    """Calls of four parties arrive, wait, run, give up and end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 7
        self.turns = Turns[tuple[str, int]](self.limit)
        self.running = list[tuple[str, int]]()
        self.lines: dict[str, list[tuple[str, int]]] = {party: [] for party in "abcd"}
        # By (one that waits, one that was let in): how often, since the first began to wait or had a turn.
        self.passed: Counter[tuple[str, str]] = Counter()
        self.number = 0

    @rule(party=PARTIES)
    def arrive(self, party: str) -> None:
        self.number += 1
        call = (party, self.number)
        if self.turns.total < self.turns.easy:
            assert self.turns.may(party)
        if self.turns.enter(party):
            assert not self.lines[party]
            self.running.append(call)
        else:
            self.turns.join(party, call)
            self.lines[party].append(call)
            self.admit()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.running))
        self.running.remove(call)
        self.turns.give_back(call[0])
        self.admit()

    @precondition(lambda self: any(self.lines.values()))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([call for line in self.lines.values() for call in line]))
        self.turns.quit(call[0], call)
        self.lines[call[0]].remove(call)
        if not self.lines[call[0]]:
            self.forget(call[0])

    def forget(self, party: str) -> None:
        for other in "abcd":
            self.passed[party, other] = 0

    def admit(self) -> None:
        for party, call in self.turns.admitted():
            assert call[0] == party
            assert self.lines[party].pop(0) == call  # first come, first served within a party
            self.running.append(call)
            held = Counter(one for one, _ in self.running)
            self.forget(party)
            for other in "abcd":
                # A party that waits and holds no more than the one that is let in is not passed over twice.
                if other != party and self.lines[other] and held[other] < held[party]:
                    self.passed[other, party] += 1
                    assert self.passed[other, party] == 1

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.running) == self.turns.total <= self.limit
        for party in "abcd":
            assert self.turns.held(party) == sum(one == party for one, _ in self.running)
        assert self.turns.waiting == sum(map(len, self.lines.values()))
        # None waits that could run, and one that holds nothing waits only while every place is taken.
        for party, line in self.lines.items():
            assert not (line and self.turns.may(party))
            if line and not self.turns.held(party):
                assert self.turns.total == self.limit

    def teardown(self) -> None:
        while self.running:
            self.turns.give_back(self.running.pop()[0])
            self.admit()
        assert (self.turns.total, len(self.turns), self.turns.waiting) == (0, 0, 0)


TestTurns = TurnsMachine.TestCase


# --- who holds most ----------------------------------------------------------------------------------------------


def test_the_party_that_holds_most_is_found_as_it_changes() -> None:
    holdings = Holdings()
    assert holdings.heaviest() is None
    for party, size in (("a", 5), ("b", 7), ("c", 6)):
        holdings.add(party, size)
    assert holdings.heaviest() == "b"
    holdings.add("b", -3)
    assert (holdings.heaviest(), holdings.held("b"), holdings.held("d")) == ("c", 4, 0)
    for party, size in (("a", 5), ("b", 4), ("c", 6)):
        holdings.add(party, -size)
    assert holdings.heaviest() is None and len(holdings) == 0


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(-500, 500)), max_size=300))
def test_the_heaviest_holds_at_least_half_of_what_any_other_does(steps: list[tuple[int, int]]) -> None:
    holdings, held = Holdings(), Counter[str]()
    for number, size in steps:
        party = str(number)
        size = max(size, -held[party])
        holdings.add(party, size)
        held[party] += size
        heaviest = holdings.heaviest()
        most = max(held.values(), default=0)
        assert (heaviest is None) == (most == 0)
        if heaviest is not None:
            assert held[heaviest] == holdings.held(heaviest)
            assert held[heaviest] == most if len(holdings) <= LOOKED_AT else 2 * held[heaviest] > most
        assert len(holdings) == sum(size > 0 for size in held.values())


def test_of_very_many_that_hold_alike_one_is_found() -> None:
    holdings = Holdings()
    for number in range(LOOKED_AT + 10):
        holdings.add(str(number), 4 + number % 4)
    heaviest = holdings.heaviest()
    assert heaviest is not None and holdings.held(heaviest) == 7
