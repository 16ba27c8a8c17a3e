# SPDX-License-Identifier: MIT
"""Sealed strings: back as they left, for whom they were made, in time, or not at all."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_h11.protocol.errors import InvalidParams
from mcp_h11.runtime.request_state import DEFAULT_TTL, MAX_SEALED, Sealer, new_key

KEY = b"k" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def refused(sealer: Sealer, sealed: str, bound: bytes = b"", now: float = 0) -> bool:
    try:
        sealer.open(sealed, bound, now)
    except InvalidParams as exc:
        # One text for all, so that nothing is learned from which check failed.
        assert (exc.code, exc.message, exc.data) == (-32602, "Invalid or expired requestState", None)
        return True
    return False


@given(st.dictionaries(st.text(), JSON, max_size=4), st.binary(max_size=40), st.floats(0, 2**33))
@settings(max_examples=60, deadline=None)
def test_what_is_sealed_opens_to_the_same_for_the_same(payload: dict[str, Any], bound: bytes, now: float) -> None:
    sealer = Sealer([KEY])
    sealed = sealer.seal(payload, bound, now)
    assert sealed.isascii() and sealed.isprintable()
    assert sealer.open(sealed, bound, now) == payload
    assert refused(sealer, sealed, bound + b"x", now)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_one_character_more_less_or_other_is_refused(data: st.DataObject) -> None:
    sealer = Sealer([KEY])
    sealed = sealer.seal({"a": "b" * data.draw(st.integers(0, 3))}, b"", 0)
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.sampled_from("ABab01-_+/= \n\u00e9\u0410"))
    for changed in (
        sealed[:at] + other + sealed[at + 1 :],
        sealed[:at] + sealed[at + 1 :],
        sealed[:at] + other + sealed[at:],
    ):
        assert changed == sealed or refused(sealer, changed)


def test_every_bit_of_the_last_character_counts() -> None:
    sealer = Sealer([KEY])
    for size in range(3):
        sealed = sealer.seal({"a": "b" * size}, b"", 0)
        end = len(sealed.rstrip("="))
        for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            changed = sealed[: end - 1] + other + sealed[end:]
            assert changed == sealed or refused(sealer, changed)


def test_the_plain_alphabet_is_not_the_one_of_the_seal() -> None:
    sealer = Sealer([KEY])
    for n in range(100):
        sealed = sealer.seal({"n": n}, b"", 0)
        if "-" in sealed or "_" in sealed:
            assert refused(sealer, sealed.replace("-", "+").replace("_", "/"))
            return
    raise AssertionError("no seal had either character")


@pytest.mark.parametrize("ttl", [1, 600.0, 0.5])
def test_it_opens_until_its_time_is_over(ttl: float) -> None:
    sealer = Sealer([KEY], ttl)
    sealed = sealer.seal({}, b"", 1000.0)
    end = int(1000.0 + ttl)
    assert not refused(sealer, sealed, now=1000.0) and not refused(sealer, sealed, now=end)
    assert refused(sealer, sealed, now=end + 0.001)


def test_a_state_lives_ten_minutes_unless_told_otherwise() -> None:
    sealer = Sealer([KEY])
    sealed = sealer.seal({}, b"", 0)
    assert DEFAULT_TTL == 600 and not refused(sealer, sealed, now=600) and refused(sealer, sealed, now=601)


def test_the_expiry_is_under_the_seal() -> None:
    sealer = Sealer([KEY])
    raw = bytearray(base64.urlsafe_b64decode(sealer.seal({}, b"", 0)))
    raw[32 + 7] ^= 1
    assert refused(sealer, base64.urlsafe_b64encode(bytes(raw)).decode())


def test_any_key_opens_and_the_first_one_seals() -> None:
    old, new = Sealer([b"o" * 16]), Sealer([b"n" * 16, b"o" * 16])
    assert not refused(new, old.seal({}, b"", 0))
    assert refused(old, new.seal({}, b"", 0))


def test_a_sealer_without_keys_has_one_of_its_own() -> None:
    one, two = Sealer(), Sealer()
    assert not refused(one, one.seal({}, b"", 0)) and refused(two, one.seal({}, b"", 0))
    assert len(new_key()) == 32 and new_key() != new_key()


def test_a_key_has_at_least_sixteen_bytes() -> None:
    Sealer([b"x" * 16])
    with pytest.raises(ValueError, match="16 bytes"):
        Sealer([b"x" * 32, b"x" * 15])


def test_a_seal_has_a_largest_size() -> None:
    sealer = Sealer([KEY])
    empty = len(json.dumps({"a": ""}, separators=(",", ":")))
    # Three bytes are four characters; 40 bytes come before the text.
    room = MAX_SEALED // 4 * 3 - 40 - empty
    sealed = sealer.seal({"a": "x" * room}, b"", 0)
    assert len(sealed) == MAX_SEALED and not refused(sealer, sealed)
    with pytest.raises(ValueError, match="larger"):
        sealer.seal({"a": "x" * (room + 1)}, b"", 0)
    assert refused(sealer, sealed + "AAAA")


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": object()}, {"a": b""}])
def test_what_is_no_json_is_not_sealed(payload: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Sealer([KEY]).seal(payload, b"", 0)


def test_what_was_sealed_but_is_no_object_is_refused() -> None:
    # Another program with the same key might: what comes back is always a dict.
    sealer = Sealer([KEY])
    sealed = sealer.seal([1], b"", 0)  # type: ignore[arg-type]
    assert refused(sealer, sealed)
