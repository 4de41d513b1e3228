"""Bytes to models and back: the one decode and the one encode of every body on a queue."""

from __future__ import annotations

import gc
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from backtalk.wire.base import escape
from backtalk.wire.errors import TooLarge, invalid
from backtalk.wire.findings import refusal
from backtalk.wire.limits import CONTRACT, Limits

GZIP_ABOVE: Final = 64 * 1024
MAX_WIRE_BYTES: Final = CONTRACT.wire_bytes
MAX_BODY_BYTES: Final = CONTRACT.body_bytes
_LARGE: Final = 256 * 1024
_PIECE: Final = 256 * 1024
# readers follow 200 levels, and an answer holds what it was asked a few levels deeper
MAX_DEPTH: Final = 150

# the only ways to infinity in valid JSON: an exponent of three digits, or a number hundreds of digits long
_HUGE_NUMBER: Final = re.compile(rb"[:,\[]\s*-?[0-9](?:[0-9]{200}|[0-9.]*[eE]\+?[0-9]{3})")

ModelT = TypeVar("ModelT", bound=BaseModel)


def unpack(body: bytes, encoding: str | None, limits: Limits = CONTRACT) -> bytes:
    """Return the uncompressed body; refuses unknown encodings and what is too large, before it is unpacked."""
    gzipped = is_gzipped(body, encoding, limits)
    unpacked = b"".join(Unpacked(body, limits)) if gzipped else body
    if len(unpacked) > limits.body_bytes:
        raise _unpacks_too_large(limits)
    return unpacked


def is_gzipped(body: bytes, encoding: str | None, limits: Limits = CONTRACT) -> bool:
    """Tell whether a body has to be unpacked; refuses unknown encodings and what is too large as sent."""
    if len(body) > limits.wire_bytes:
        raise TooLarge(f"{len(body)} bytes are more than {limits.wire_bytes}; send it gzipped, or split it")
    if encoding in (None, "", "identity", "utf-8"):
        return False
    if encoding == "gzip":
        return True
    raise invalid("content_encoding", f"{encoding!r} is not known; use gzip, or leave it out")


class Unpacked:
    """A gzipped body in pieces, so that it need not be there as a whole; its length is what it says of itself.

    Iterating raises Refused where it is too large or no gzip. What is iterated to the end has the length it says.
    """

    def __init__(self, body: bytes, limits: Limits = CONTRACT) -> None:
        self._body = body
        self._limits = limits

    def __len__(self) -> int:
        return int.from_bytes(self._body[-4:], "little")

    def __iter__(self) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(wbits=31)
        left = self._limits.body_bytes
        for at in range(0, len(self._body), _PIECE):
            for piece in _pieces(unpacker, self._body[at : at + _PIECE]):
                left -= len(piece)
                if left < 0:
                    raise _unpacks_too_large(self._limits)
                yield piece
        if not unpacker.eof or unpacker.unused_data:
            raise invalid("body", "is no single complete gzip stream; compress it once, whole")


def _pieces(unpacker: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """Yield what comes out of some packed bytes, never much at once."""
    more = True
    while more:
        try:
            piece = unpacker.decompress(packed, _PIECE)
        except zlib.error as error:
            raise invalid("body", "is not gzip, although content_encoding says so") from error
        yield piece
        packed = unpacker.unconsumed_tail
        # a full piece may not be all that was in there
        more = bool(packed) or len(piece) == _PIECE


def _unpacks_too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"unpacks to more than {limits.body_bytes} bytes; split the message")


def pack(body: bytes, *, compress: bool) -> tuple[bytes, str | None]:
    """Return the body as it is sent and its content encoding; refuses what is too large for the broker."""
    packed, encoding = body, None
    if compress and GZIP_ABOVE < len(body) <= MAX_BODY_BYTES:
        packed, encoding = gzip.compress(body, compresslevel=5, mtime=0), "gzip"
    if len(packed) > MAX_WIRE_BYTES or len(body) > MAX_BODY_BYTES:
        raise TooLarge(
            f"{len(packed)} bytes ({len(body)} unpacked) pass the limit of {MAX_WIRE_BYTES} ({MAX_BODY_BYTES}); "
            "split the message"
        )
    return packed, encoding


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; refuses everything else, NaN and infinities anywhere included."""
    try:
        value = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise invalid(
            "body", f"is not valid JSON in UTF-8 ({error}); send one JSON object, nested less than 200 levels"
        ) from error
    if not isinstance(value, dict):
        raise invalid("body", f"is a JSON {_json_name(value)}; send an object")
    if _HUGE_NUMBER.search(body):
        _refuse_infinity(value)
    return value


def _json_name(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _refuse_infinity(value: dict[str, Any]) -> None:
    if path := _infinity_in(value):
        raise invalid("/".join(reversed(path)), "is too large for a number; send a finite one")


def _infinity_in(value: Any) -> list[str] | None:
    """Return the steps to the first infinity, the last one first, or None."""
    if isinstance(value, float) and not isfinite(value):
        return []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if (steps := _infinity_in(item)) is not None:
            return [*steps, escape(str(key))]
    return None


def deeper_than(value: Any, levels: int) -> bool:
    """Tell whether objects and arrays stand in one another so many times, and more."""
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def decode(body: bytes, model: type[ModelT], look: Callable[[dict[str, Any]], None] | None = None) -> ModelT:
    """Return the model in an uncompressed body, or raise Refused with the paths of what is wrong.

    What is parsed may be looked at before it is validated, which takes much longer.
    """
    with _collector_paused(large=len(body) > _LARGE):
        parsed = parse(body)
        if look is not None:
            look(parsed)
        return validate(parsed, model)


def validate(value: Any, model: type[ModelT]) -> ModelT:
    """Return the model of a parsed value, or raise Refused with the paths of what is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(error) from error


def encode(model: BaseModel) -> bytes:
    """Return a message as JSON; raises Refused for a text that UTF-8 cannot write: half of a surrogate pair."""
    try:
        return to_json(model)
    except PydanticSerializationError as error:
        raise invalid("body", "holds a text that is no Unicode; leave it out") from error


@contextmanager
def _collector_paused(*, large: bool) -> Iterator[None]:
    # the collector walks all the new objects of a large graph again and again: 62 ms become 200 to 400
    if not (large and gc.isenabled()):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
