"""The record that travels in journals and over sockets: one JSON object, one line.

{"v": 1, "n": number in its file, "t": unix seconds, "ev": type, …}. Unknown types and fields are kept and ignored by readers. Numbers
that are not finite travel as the strings "nan", "inf" and "-inf": JSON has no word for them, and msgspec would write null.
"""

import math
from typing import Any

import msgspec

VERSION = 1

_encoder = msgspec.json.Encoder(enc_hook=str)  # a Path, say, or a numpy scalar: its text is better than a lost record
_decoder = msgspec.json.Decoder()
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(record: dict[str, Any]) -> bytes:
    """The record as one line of JSON, line feed included."""
    return _encoder.encode(_finite(record)) + b"\n"


def decode(line: bytes) -> dict[str, Any] | None:
    """The record of one line, or None for a torn line or anything that is no record. A proper prefix of an object never parses."""
    try:
        record = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
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


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else ("nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
