"""How long the sequences of a data set are as they are trained: the few figures that a memory plan needs, and of which files they hold.

Made by tuitune.analyst.sequence_lengths, kept by tuitune.dataset.looked_at. Imports neither numpy nor torch: `tuitune plan` reads them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.preflight.model_files import locate_model
from tuitune.recipe.recipe import Recipe

COUNTS = tuple(1 << power for power in range(13))  # 1, 2, 4, … 4096 sequences: micro-batches are no larger
COMMIT = re.compile("[0-9a-f]{40}")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tekken.json", "config.json"),
)


@dataclass(frozen=True)
class Lengths:
    """Of all sequences after max_length and packing (of a preference pair its longer side). `sums`: tokens of the 1, 2, 4, … 4096 longest
    together; `scored`: positions in the loss of as many that have most of them (of a pair both sides'). `evaluation`: tokens of the
    longest row of dataset.eval, None when nobody knows or when evaluation rows are packed."""

    sequences: int
    tokens: int
    sums: tuple[int, ...]
    scored: tuple[int, ...]
    evaluation: int | None

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.sums[0]


def as_json(lengths: Lengths) -> dict[str, Any]:
    """The fields of Lengths."""
    return {**vars(lengths), "sums": list(lengths.sums), "scored": list(lengths.scored)}


def from_json(document: Any) -> Lengths:
    """What as_json wrote. KeyError, TypeError or ValueError when it is something else."""
    evaluation = document["evaluation"]
    found = Lengths(
        int(document["sequences"]),
        int(document["tokens"]),
        tuple(int(tokens) for tokens in document["sums"]),
        tuple(int(tokens) for tokens in document["scored"]),
        None if evaluation is None else int(evaluation),
    )
    if len(found.sums) != len(COUNTS) or len(found.scored) != len(COUNTS) or found.longest < 1:
        raise ValueError("no lengths of sequences")
    return found


def stamp(recipe: Recipe) -> dict[str, Any] | None:
    """Size and time of change (ns) of all files that decide how long the sequences are: data, template, tokenizer. None when that cannot be
    known: a file is not here, or a data set of the Hub is not bound to a commit."""
    files: dict[str, list[int]] = {}
    try:
        for path, needed in _files(recipe):
            if needed or path.is_file():
                state = path.stat()
                files[str(path)] = [state.st_size, state.st_mtime_ns]
    except (OSError, UserError):
        return None
    sources = [source for split in ("train", "eval") for source in recipe.dataset.get(split) or ()]
    if any(not Path(source["path"]).is_absolute() and not COMMIT.fullmatch(str(source.get("revision"))) for source in sources):
        return None
    return {"files": files, "eval": recipe.dataset.get("eval"), "adapter": recipe.model.get("adapter")}


def _files(recipe: Recipe) -> Iterator[tuple[Path, bool]]:
    """(file, whether it must be there)."""
    for split in ("train", "eval"):
        for source in recipe.dataset.get(split) or ():
            if Path(source["path"]).is_absolute():
                yield Path(source["path"]), True
    if named := recipe.tokenizer.get("chat_template"):
        yield Path(named), True
    for section in (recipe.model, {"name_or_path": recipe.model.get("adapter")}):
        folder = locate_model(section) if section["name_or_path"] else None
        if folder is not None:
            yield from ((folder / name, False) for name in TOKENIZER_FILES)
