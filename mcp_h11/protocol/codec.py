# SPDX-License-Identifier: MIT
"""Strict JSON: one value to bytes and back.

It refuses text that is not strict UTF-8 JSON (RFC 8259: no byte order mark, no NaN or Infinity, no number that
overflows to one), and nesting and integers past a limit.  It knows nothing of messages; `jsonrpc` does.

Rule: the answer depends on the bytes alone.  A faster codec changes the time, never the verdict nor the value: a text
that the standard library and such a codec read differently goes to the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Protocol

from .errors import ParseError
from .finite import not_finite
from .longtexts import add_pieces
from .outlines import OUTLINED, outline

# The standard library raises RecursionError at about 1,000 levels less the depth of the stack at that moment, so that
# is no limit to rely on.  Nothing in MCP nests deeper than a JSON Schema does.
MAX_DEPTH = 128
# CPython's own default limit for int(str).  A host may have moved that one (sys.set_int_max_str_digits); this one
# stays.
MAX_DIGITS = 4_300


class Codec(Protocol):
    """A faster codec for `JSON`: the module `orjson`, or any module or object with these two functions."""

    def loads(self, data: bytes, /) -> Any: ...

    def dumps(self, obj: Any, /) -> str | bytes: ...


# --- strict reading ---------------------------------------------------------------------------------------------
def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    # inf - inf is NaN: the cheapest way to ask.
    if value - value != 0.0:
        raise ValueError("number out of range")
    return value


def bounded(text: str) -> int:
    if len(text) - (text[0] == "-") > MAX_DIGITS:
        raise ValueError("integer too long")
    return int(text)


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
_read = _decoder.decode
_read_prefix = _decoder.scan_once  # type: ignore[attr-defined]  # what `raw_decode` calls
# The hook costs a call for each integer; only texts with a long run of digits need it.
_read_bounded = json.JSONDecoder(parse_float=_finite, parse_int=bounded, parse_constant=_refuse_constant).decode

# Digits become "0", all else becomes " ", so that a run of digits is found at the speed of memory.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
# 19 digits can leave 64 bits, 18 cannot.
_PAST_64_BITS = 19
# Up to here it is not worth looking twice.
SMALL = 1024


def _has_digits(body: bytes, run: int, stride: int) -> bool:
    # A run of digits covers at least run // stride of the bytes at multiples of stride, wherever it begins.
    if len(body) > SMALL and body[::stride].translate(_DIGITS).find(b"0" * (run // stride)) < 0:
        return False
    return body.translate(_DIGITS).find(b"0" * run) >= 0


_NO_SEPARATORS = bytes(byte for byte in range(256) if byte not in b",:[{")
# An integer of 4,300 digits takes as long as 300 other values, and only a large body has many of those.
_LONG_RUN = 1_000
_VALUES_OF_LONG_RUN = 100
_LONG_BODY = 1024 * 1024


def has_more_values(body: bytes, limit: int, size: int = 0) -> bool:
    # `body` may be the outline of a body of `size` bytes.
    # Before each value or name stands one of ",:[{".  Those within strings do not count, but they are told apart only
    # if the first count is too large: a text of 4 MiB may have as many commas.
    many = len(body.translate(None, _NO_SEPARATORS)) > limit
    if not many and not (max(size, len(body)) > _LONG_BODY and _has_digits(body, _LONG_RUN, _LONG_RUN // 10)):
        return False
    if body.find(b"\\") >= 0:  # as in `too_deep`
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Each pair of quotes is a value or a name itself.  This test also bounds the list that `split` makes below.
    if body.count(b'"') // 2 > limit:
        return True
    outside = b"".join(body.split(b'"')[::2])
    runs = outside.translate(_DIGITS).count(b"0" * _LONG_RUN)
    return len(outside.translate(None, _NO_SEPARATORS)) + runs * _VALUES_OF_LONG_RUN > limit


_NO_BRACKETS_OR_QUOTES = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STEP = {0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}


def too_deep(body: bytes) -> bool:
    # Stops looking after MAX_DEPTH + 1 brackets; `count` would not.
    most = MAX_DEPTH + 1
    if len(body.split(b"[", most)) + len(body.split(b"{", most)) - 2 < most:
        return False
    # Escapes go first, "\\" before "\"" so that the quote after an even run of backslashes still ends its string; then
    # every second piece between quotes lies outside of strings.  Exact up to the first syntax error, where the parser
    # stops as well.
    if body.find(b"\\") >= 0:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes with nothing between them leave everything else where it was, inside of a string or outside.
    brackets = body.translate(None, _NO_BRACKETS_OR_QUOTES).replace(b'""', b"")
    outside = b"".join(brackets.split(b'"')[::2])
    return max(accumulate(map(_STEP.__getitem__, outside)), default=0) > MAX_DEPTH


def _strict(body: bytes) -> Any:
    try:
        # The whole of "strict UTF-8": json.loads(bytes) would guess UTF-16 and UTF-32 and let surrogates pass.
        text = body.decode("utf-8")
        if len(body) > MAX_DIGITS and _has_digits(body, MAX_DIGITS + 1, MAX_DIGITS // 10):
            return _read_bounded(text)
        try:
            # A quarter faster than `decode`, which looks for whitespace on both sides with regular expressions.
            value, end = _read_prefix(text, 0)
            if end == len(text) or not text[end:].strip(" \t\r\n"):
                return value
        except (ValueError, StopIteration):
            pass
        # A byte order mark is no JSON whitespace, so that the decoder refuses it by itself.
        return _read(text)
    except (ValueError, RecursionError) as error:
        # ValueError covers json.JSONDecodeError, UnicodeDecodeError, and int() under a limit that the host lowered.
        # JSONDecodeError gives the place and never the text, so that nothing of the body comes back in the answer.
        raise ParseError(f"Parse error: {error}" if type(error) is json.JSONDecodeError else "Parse error") from None


# --- strict writing ---------------------------------------------------------------------------------------------

# U+2028 and U+2029 may stay as they are: neither JSON, nor server-sent events, nor lines on stdio split there.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_write_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


def _fast_writer() -> Callable[[Any], str]:
    """`_encoder.encode`, with its inner encoder made once and not for each text: that is half of a short one's time.

    Where the interpreter has no such inner encoder, or it has changed, `encode` itself.
    """
    try:
        # Without a table of markers a circular reference ends as a RecursionError.
        make, strings = json.encoder.c_make_encoder, json.encoder.encode_basestring  # type: ignore[attr-defined]
        pieces = make(None, _encoder.default, strings, None, ":", ",", False, False, False)
        probe = {"a": [1, 2.5, "\u00e9", None, True]}
        if "".join(pieces(probe, 0)) == _encoder.encode(probe):
            return lambda obj: "".join(pieces(obj, 0))
    except Exception:  # another interpreter, or a later one: correct and a little slower
        pass
    return _encoder.encode


_write = _fast_writer()


def standard_dumps(obj: Any) -> bytes:
    try:
        return _write(obj).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8, but it has an escape.
        return _write_ascii(obj).encode("ascii")
    except RecursionError:
        raise ValueError("nested too deeply to be written as JSON") from None
    except ValueError as error:
        raise not_finite(obj) or error from None


def long_dumps(obj: Any, before: bytes = b"", after: bytes = b"") -> bytes:
    """As `standard_dumps`, and faster for a value with long texts; with bytes around it, in one copy."""
    pieces = [before]
    try:
        add_pieces(pieces, obj, _write)
    except (ValueError, RecursionError):  # it knows the error, or the escape
        return b"%b%b%b" % (before, standard_dumps(obj), after)
    pieces.append(after)
    return b"".join(pieces)


def says_null(written: bytes) -> bool:
    """Whether a codec may have written NaN: orjson writes null, which would make an answer of a handler's fault."""
    return (written if len(written) <= OUTLINED else outline(written)).find(b"null") >= 0


# --- the codec --------------------------------------------------------------------------------------------------

# The standard library's strict reading refuses these texts, so a codec that takes one of them is refused.
_MUST_REFUSE = (
    b"NaN",
    b"[Infinity]",
    b"[-Infinity]",
    b"\xef\xbb\xbf{}",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"[1,]",
    b"{}{}",
)
_MUST_AGREE = (b'{"a":1,"b":[2.0,-0.0,1e3,true,null,"\xc3\xa9\\u00e9\\n"],"a":-3}', b"123456789012345678", b" [] ")
_LONG = b"1" * 40


def _vet(codec: Codec) -> None:
    for body in _MUST_REFUSE:
        try:
            codec.loads(body)
        except Exception:  # each codec has exceptions of its own, and any of them is a refusal
            continue
        raise ValueError(f"the JSON codec accepts {body!r}, which is not JSON")
    for body in _MUST_AGREE:
        if repr(codec.loads(body)) != repr(_strict(body)):
            raise ValueError(f"the JSON codec reads {body!r} in a way of its own")
    if _disguises_integers(codec):
        raise ValueError("the JSON codec reads long integers in a way of its own")
    try:
        written = codec.dumps([float("nan")])
    except Exception:
        return
    if written not in ("[null]", b"[null]"):
        raise ValueError("the JSON codec writes NaN")


def _disguises_integers(codec: Codec) -> bool:
    # As something else that looks the same when it is written: `JSON._canonical` would not notice.
    try:
        value = codec.loads(_LONG)
        return type(value) is not int and codec.dumps(value) in (_LONG, _LONG.decode())
    except Exception:  # narrow, which is allowed
        return False


def _bytes_writer(codec: Codec) -> Callable[[Any], bytes]:
    write: Any = codec.dumps
    try:
        writes_text = isinstance(write([]), str)
    except Exception:  # then it writes nothing, as far as we are concerned
        writes_text = False
    return (lambda obj: write(obj).encode("utf-8")) if writes_text else write


class StrictJSON:
    """Reads and writes JSON values.  It keeps no state, so any thread may use it.

    Args:
        codec: `orjson`, or any object with its `loads(bytes)` and `dumps(obj)`; None for the standard library.

    Raises:
        ValueError: the codec takes or writes text that is not JSON.
    """

    __slots__ = ("_codec_dumps", "_codec_loads")

    def __init__(self, codec: Codec | None = None) -> None:
        self._codec_loads: Callable[[bytes], Any] | None = None
        self._codec_dumps: Callable[[Any], bytes] | None = None
        if codec is not None and codec is not json:
            _vet(codec)
            self._codec_loads = codec.loads
            self._codec_dumps = _bytes_writer(codec)

    def loads(self, body: bytes, rough: bytes | None = None) -> Any:
        """Any JSON value.  `rough` is the outline of the body, from a caller that has it.

        Raises:
            ParseError: not strict UTF-8 JSON, nested deeper than MAX_DEPTH, an integer of more than MAX_DIGITS digits,
                or a number past the range of a double.
        """
        if rough is None:
            rough = body if len(body) <= OUTLINED else outline(body)
        # A complete text that is nested deeper than MAX_DEPTH has two brackets for each level.
        if len(rough) > 2 * MAX_DEPTH and too_deep(rough):
            raise ParseError(f"Parse error: nested deeper than {MAX_DEPTH}")
        # orjson reads an integer past 64 bits as a float, silently.
        if self._codec_loads is not None and not _has_digits(rough, _PAST_64_BITS, 6):
            try:
                return self._codec_loads(body)
            except Exception:  # of any class: the standard library decides about a text that the codec refuses
                pass
        return _strict(body)

    def dumps(self, obj: Any) -> bytes:
        """Compact JSON in UTF-8 on one line; lone surrogates as escapes.

        A codec may spell a float in another way (1e22 for 1e+22) and take more types (orjson: datetime).  For an object
        that both can write, the JSON value is the same.

        Raises:
            ValueError: NaN or Infinity, a circular reference, or nesting that exhausts the stack.
            TypeError: not made of dict, list, tuple, str, int, float, bool and None.
        """
        if self._codec_dumps is not None:
            try:
                written = self._codec_dumps(obj)
            except Exception:  # big integers, lone surrogates, keys that are numbers: not written by all
                return standard_dumps(obj)
            if not says_null(written):
                return written
        return standard_dumps(obj)
