"""What looks at every row of a file: search, broken rows, duplicates, overlap. Each runs in a forked worker of the reader, so that a
pattern that never returns can be ended, and says how far it is.
"""

import re
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from tuitune.dataset.reader.row_file import Numbered, RowFile, Sieve
from tuitune.dataset.sources import Broken, Row
from tuitune.errors import UserError
from tuitune.text import printable

TELL_EVERY = 10_000  # rows
BLOCK = 2_000  # rows looked at first in a search backwards
MOST = 10_000  # repeated rows that are named; all are counted
DIGEST = 16  # bytes

Tell = Callable[[str], None]
Wanted = Callable[[Row | Broken], bool]
_canonical = msgspec.json.Encoder(order="deterministic", enc_hook=str)
_NUMBERS = frozenset("0123456789.+-einftyarusl")  # letters that numbers, true and false are written with, in JSON or in Python


def search_for(text: str, *, regex: bool, exact: bool) -> tuple[Wanted, Sieve | None]:
    """Whether a row holds `text` in one of its values, and a quick look that says which raw lines need no parsing.

    exact: capitals count. UserError when a pattern is none.
    """
    try:
        pattern = re.compile(text if regex else re.escape(text), 0 if exact else re.IGNORECASE)
    except re.error as error:
        raise UserError(f"{printable(text, limit=80)} is no regular expression ({error}); mend it, or search for it as text") from None

    def wanted(item: Row | Broken) -> bool:
        return isinstance(item, Row) and any(pattern.search(value) for value in _texts(item.data))

    return wanted, None if regex else _sieve(text, exact)


def _sieve(text: str, exact: bool) -> Sieve | None:
    """None where JSON may write the text in another way than it reads."""
    if not text.isascii() or not text.isprintable() or set(text) & set('"\\/') or set(text.lower()) <= _NUMBERS:
        return None
    if exact:
        needle = text.encode()
        return lambda raw: needle in raw or b"\\u" in raw
    needle = text.lower().encode()
    kin = not set(needle).isdisjoint(b"ks")  # ſ and K (the Kelvin sign) match s and k
    return lambda raw: needle in raw.lower() or b"\\u" in raw or (kin and not raw.isascii())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)


def is_broken(item: Row | Broken) -> bool:
    """Wanted by the search for rows that cannot be read."""
    return isinstance(item, Broken)


def find(file: RowFile, start: int, wanted: Wanted, tell: Tell, sieve: Sieve | None = None) -> int | None:
    """The number of the first wanted row from `start` on, else of the first from the beginning."""
    for row, item in _rows(file, start, tell, sieve):
        if wanted(item):
            return row
    for row, item in _rows(file, 0, tell, sieve):
        if row >= start:
            break
        if wanted(item):
            return row
    return None


def find_backward(file: RowFile, start: int, wanted: Wanted, tell: Tell, sieve: Sieve | None = None) -> int | None:
    """The number of the last wanted row before `start`, else of the last one in the file.

    Looks at blocks of rows, each larger than the one behind it: files are read forward, and to get to a block may cost a pass.
    """
    found = _last_in_blocks(file, 0, start, wanted, tell, sieve)
    if found is None:
        for _ in file.count() if not file.complete else ():
            pass
        found = _last_in_blocks(file, start, file.known, wanted, tell, sieve)
    return found


def _last_in_blocks(file: RowFile, first: int, end: int, wanted: Wanted, tell: Tell, sieve: Sieve | None) -> int | None:
    size = BLOCK
    while end > first:
        begin = max(first, end - size)
        found = None
        for row, item in _rows(file, begin, tell, sieve):
            if row >= end:
                break
            if wanted(item):
                found = row
        if found is not None:
            return found
        end, size = begin, size * 4
    return None


def _rows(file: RowFile, start: int, tell: Tell, sieve: Sieve | None = None) -> Iterator[Numbered]:
    """The rows from a number on; says every so often at which row it is."""
    told = start
    for numbered in file.read(start, sieve):
        if numbered is None:
            continue
        if numbered[0] - told >= TELL_EVERY:
            told = numbered[0]
            tell(f"row {told:,}")
        yield numbered


def digests(file: RowFile, tell: Tell) -> tuple[bytearray, "array[int]"]:
    """DIGEST bytes for every row that can be read, and the numbers of those rows. Equal rows, equal digests: the order of columns
    does not count."""
    found, rows = bytearray(), array("q")
    for row, item in _rows(file, 0, tell):
        if isinstance(item, Row):
            found += blake2b(_canonical.encode(item.data), digest_size=DIGEST).digest()
            rows.append(row)
    return found, rows


def duplicates(file: RowFile, tell: Tell) -> dict[str, Any]:
    """{"rows": looked at, "count": rows that repeat an earlier one, "pairs": [[row, the first such row], …]}, at most MOST pairs."""
    import numpy

    found, numbers = digests(file, tell)
    rows = numpy.frombuffer(numbers, dtype=numpy.int64)
    halves = numpy.frombuffer(found, dtype=numpy.uint64).reshape(-1, 2)
    order = numpy.lexsort((halves[:, 1], halves[:, 0]))  # stable: equal rows stay in their order
    ordered = halves[order]
    same = numpy.zeros(len(order), dtype=bool)
    same[1:] = (ordered[1:] == ordered[:-1]).all(axis=1)
    firsts = numpy.maximum.accumulate(numpy.where(same, 0, numpy.arange(len(order))))
    pairs = numpy.stack([rows[order[same]], rows[order[firsts[same]]]], axis=1)
    pairs = pairs[pairs[:, 0].argsort()]
    return {"rows": len(rows), "count": len(pairs), "pairs": pairs[:MOST].tolist()}


def overlap(file: RowFile, other: RowFile, tell: Tell) -> dict[str, Any]:
    """{"rows": looked at, "count": rows that are in the other file too, "pairs": [[row, row of the other file], …]}, at most MOST."""
    theirs, their_rows = digests(other, lambda text: tell(f"{printable(other.path.name)}: {text}"))
    ours, our_rows = digests(file, tell)
    first: dict[bytes, int] = {}
    for index, row in enumerate(their_rows):
        first.setdefault(bytes(theirs[index * DIGEST : (index + 1) * DIGEST]), row)
    pairs: list[list[int]] = []
    count = 0
    for index, row in enumerate(our_rows):
        match = first.get(bytes(ours[index * DIGEST : (index + 1) * DIGEST]))
        if match is not None:
            count += 1
            if len(pairs) < MOST:
                pairs.append([row, match])
    return {"rows": len(our_rows), "count": count, "pairs": pairs}
