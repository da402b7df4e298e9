"""What TRL made of the rows: counts and a hash of exactly what is trained on, told once before the first step."""

from array import array
from hashlib import sha256
from typing import Any

from tuitune.trainer.build import Built

IGNORED = -100  # the label of a position that is not in the loss


def describe(built: Built) -> dict[str, Any]:
    """Fields of the `data` event. `sequences` are rows after TRL's preparation (fewer when it dropped or packed some); the hash covers
    every integer column (ids, labels, masks) in order, so equal hashes mean equal training data."""
    prepared = built.trainer.train_dataset
    columns = [name for name in sorted(prepared.column_names) if _is_integers(prepared, name)]
    digest = sha256()
    tokens = trained = 0
    for row in prepared.select_columns(columns) if columns else []:
        for name in columns:
            digest.update(f"{name}:{len(row[name])}:".encode())
            digest.update(array("q", row[name]).tobytes())  # 64 bit, little-endian on every box we train on
        tokens += len(row.get("input_ids") or [])
        trained += sum(label != IGNORED for label in row.get("labels") or [])
    max_length = getattr(built.trainer.args, "max_length", None)
    return {
        "format": built.train.format,
        "rows": len(built.train.rows),
        "sequences": len(prepared),
        "dropped": len(built.train.rows) - len(prepared) if not getattr(built.trainer.args, "packing", False) else None,
        "at_max_length": _at_length(prepared, max_length),
        "tokens": tokens,
        "trained_tokens": trained or None,
        "eval_rows": len(built.eval.rows) if built.eval else 0,
        "fingerprint": built.train.fingerprint(),
        "sha256": digest.hexdigest(),
    }


def _is_integers(dataset: Any, name: str) -> bool:
    feature = dataset.features[name]
    inner = getattr(feature, "feature", None)
    return str(getattr(inner, "dtype", "")).startswith(("int", "uint"))


def _at_length(prepared: Any, max_length: int | None) -> int | None:
    """Rows that fill max_length, which are those that were cut (or fit to the token)."""
    if max_length is None or "input_ids" not in prepared.column_names:
        return None
    return sum(len(ids) >= max_length for ids in prepared["input_ids"])
