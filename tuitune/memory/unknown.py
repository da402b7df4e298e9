"""Shapes of models that tuitune.memory.families has no formula for: from what the analyst counted on a model without memory.

An answer is kept in the cache, by the config and the versions that made it: `tuitune plan` starts the analyst once for a model, and later
plans of it import nothing.
"""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuitune.files import cache_dir, write_atomically
from tuitune.memory.measured import Way, as_json, measured_from_json
from tuitune.memory.shape import Linear, Shape
from tuitune.text import printable
from tuitune.versions import installed

VERSION = 1  # of what is counted, and how
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
Count = Callable[[dict[str, Any]], dict[str, Any]]  # asks the analyst: {"folder", "ways"} → the document of tuitune.analyst.meta_memory.run


def counted_shape(folder: Path, config: dict[str, Any], ways: list[Way], count: Count | None) -> Shape | None:
    """The shape of the model in `folder`, for these ways of training; None when it is not in the cache and there is nobody to `count` it.

    UserError when the analyst cannot, or for a config that it makes no sense of.
    """
    asked = as_json(ways)
    kept = _file(config, asked)
    document = None if kept is None else _read(kept)
    if document is not None:
        try:
            return shape_of(document)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass  # written by somebody else, or half: counted again
    if count is None:
        return None
    document = count({"folder": str(folder), "ways": asked})
    shape = shape_of(document)
    if kept is not None:
        try:
            write_atomically(kept, json.dumps(document), mode=0o600)
        except OSError:
            pass  # a full disk costs the remembered answer only
    return shape


def _file(config: dict[str, Any], ways: Any) -> Path | None:
    """Where the answer to these questions is kept; None when the cache cannot be reached."""
    said = {"version": VERSION, "config": config, "ways": ways, "libraries": installed(LIBRARIES)}
    name = sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
    try:
        folder = cache_dir() / "counted-models"
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder / f"{name}.json"


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def shape_of(document: Any) -> Shape:
    """The shape that a count describes. KeyError, TypeError or ValueError when it describes none."""
    linears = tuple(
        Linear(str(path), int(inputs), int(outputs), "mlp", bool(bias), int(number))
        for path, inputs, outputs, bias, number in document["linears"]
    )
    hidden, heads = int(document["hidden"]), int(document["heads"])
    return Shape(
        family=printable(str(document["family"])),
        hidden=hidden,
        layers=int(document["layers"]),
        heads=heads,
        kv_heads=int(document["kv_heads"]),
        head_dim=hidden // heads,
        vocab=int(document["vocab"]),
        tied=bool(document["tied"]),
        linears=linears,
        default_targets=(),
        mlp_width=0,
        window=document["window"],
        head_bias=bool(document["head_bias"]),
        measured=measured_from_json(document["measured"]),
    )
