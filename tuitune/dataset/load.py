"""All rows of one split of a recipe, in the order in which the trainer gets them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec

from tuitune.dataset.columns import convert, mapping_for
from tuitune.dataset.sources import Row, data_format, read_rows
from tuitune.errors import UserError
from tuitune.text import printable

T = TypeVar("T")


@dataclass
class Split:
    """`rows` in TRL's shape; `places` has (file, line) of each; `columns` the mapping used for each source."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    columns: list[dict[str, str]] = field(default_factory=list)

    @property
    def format(self) -> str:
        """What TRL calls this shape, for the ledger."""
        if not self.rows:
            return "empty"
        names = set(self.rows[0])
        kind = (
            "messages"
            if "messages" in names
            else "preference"
            if "chosen" in names
            else "prompt-completion"
            if "completion" in names
            else "prompt"
            if "prompt" in names
            else "text"
        )
        talk = any(isinstance(value, list) for name, value in self.rows[0].items() if name in ("messages", "prompt", "chosen"))
        return f"{kind} ({'conversational' if talk else 'text'})"

    def fingerprint(self) -> str:
        """sha256 over the rows as they go to the trainer: the same data, the same hash."""
        digest = sha256()
        for row in self.rows:
            digest.update(msgspec.json.encode(row, enc_hook=str, order="sorted"))
            digest.update(b"\n")
        return digest.hexdigest()


def load_split(sources: Sequence[Mapping[str, Any]], name: str = "train") -> Split:
    """Read and map every source of a split ("train" or "eval"), one after the other; `path` is absolute or a Hub id.

    `max_rows` cuts a source; `weight` w uses each of its rows w times (0.5: a seeded half of them).

    UserError for anything that cannot be read or does not fit, with file and line.
    """
    split = Split()
    for source in sources:
        rows = weighted(islice(rows_of(source, name), source.get("max_rows")), float(source.get("weight") or 1.0))
        split.columns.append(_add(split, rows, source.get("columns")))
    shapes = {tuple(sorted(set(row) & {"messages", "prompt", "completion", "text", "chosen", "rejected"})) for row in split.rows}
    if len(shapes) > 1:
        raise UserError(f"dataset: sources of different shape cannot be mixed ({'; '.join('+'.join(shape) for shape in sorted(shapes))})")
    return split


def _add(split: Split, rows: Iterable[Row], columns: Mapping[str, str] | None) -> dict[str, str]:
    mapping: dict[str, str] | None = None
    unseen: set[str] = set()
    file = ""
    for row in rows:
        if mapping is None:
            mapping, file = mapping_for(row, columns), row.file
            unseen = set(mapping.values())
        unseen -= row.data.keys()
        split.rows.append(convert(row, mapping))
        split.places.append((row.file, row.line))
    if unseen:
        raise UserError(f"no row of {printable(file)} has a column {printable(repr(min(unseen)))}; correct `columns` of that source")
    return mapping or {}


def weighted(rows: Iterator[T], weight: float) -> Iterable[T]:
    """Each row `weight` times; of a fraction the same rows every time."""
    if weight == 1.0:
        return rows
    kept = list(rows)
    if not kept:
        return kept
    times, extra = divmod(round(weight * len(kept)), len(kept))
    sampled = sorted(Random(0).sample(range(len(kept)), extra))
    return [*(kept * times), *(kept[index] for index in sampled)]


def rows_of(source: Mapping[str, Any], split: str) -> Iterator[Row]:
    """All rows of a source, a file or a data set of the Hub, as they stand there."""
    path = Path(str(source["path"]))
    if path.is_absolute() or data_format(path) is not None:
        return read_rows(path)
    return _hub_rows(source, {"train": "train", "eval": "test"}[split])


def _hub_rows(source: Mapping[str, Any], split: str) -> Iterator[Row]:
    """A data set of the Hub, through `datasets`; only ever called in the trainer or the analyst."""
    import datasets

    name = str(source["path"])
    try:
        loaded = datasets.load_dataset(name, source.get("subset"), split=source.get("split") or split, revision=source.get("revision"))
    except Exception as error:
        reason = printable(str(error).partition("\n")[0], limit=160)
        raise UserError(
            f"the data set {printable(name)} is neither a file nor to be had from the Hub ({reason}); "
            "check the name and the network, or download it and name the file"
        ) from error
    for number, data in enumerate(loaded, 1):
        yield Row(dict(data), name, number)
