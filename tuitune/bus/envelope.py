"""The record that travels in journals and over sockets: one JSON object, one line.

{"v": 1, "n": number in its file, "t": unix seconds, "ev": type, …}. Unknown types and fields are kept and ignored by readers. Numbers
that are not finite travel as the strings "nan", "inf" and "-inf": JSON has no word for them, and msgspec would write null.
"""

import math
from typing import Any

import msgspec

VERSION = 1
# The commands a run takes: the hub refuses others, the trainer tells in its hello which it takes.
OPS = ("set", "pause", "resume", "save", "evaluate", "sample", "reshape", "snapshot", "stacks", "stop", "kill")
# What a chat takes besides `stop` (tuitune.after.chat).
JOB_OPS = ("ask", "interrupt", "regenerate", "reset", "probabilities")

_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder()
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(record: dict[str, Any]) -> bytes:
    """The record as one line of JSON, line feed included. Takes any value: what JSON does not know is written as its text."""
    return _encoder.encode(_plain(record)) + b"\n"


def decode(line: bytes) -> dict[str, Any] | None:
    """The record of one line, or None for a torn line or anything that is no record. A proper prefix of an object never parses."""
    try:
        record = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def as_number(value: object) -> float | None:
    """A number out of a record: undoes the strings for what is not finite; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # JSON's integers have no end
            return math.inf if value > 0 else -math.inf
    return _NOT_FINITE.get(value) if isinstance(value, str) else None


def _plain(value: Any) -> Any:
    """`value` in what JSON has: a number of numpy's or torch's is a number, half a character becomes �, anything else its text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else ("nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        try:
            return _plain(value.item())
        except (TypeError, ValueError, RuntimeError):
            pass  # an array of many numbers: its text will have to do
    return _plain(str(value))
