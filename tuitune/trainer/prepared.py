"""What TRL made of the rows: counts and a hash of exactly what is trained on, told once before the first step."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tuitune.files import file_hash
from tuitune.trainer.build import Built

TOKENS = (  # sft; kto; dpo and reward; orpo and cpo
    *("input_ids", "prompt_ids", "completion_ids", "chosen_ids", "rejected_ids"),
    *("chosen_input_ids", "rejected_input_ids"),
)
IGNORED = -100  # the label of a position that is not in the loss


def describe(built: Built) -> dict[str, Any]:
    """Fields of the `data` event. `sequences` are rows after TRL's preparation (fewer when it dropped or packed some); the hash covers
    every integer column (ids, labels, masks) in order and their row lengths, so equal hashes mean equal training data."""
    prepared = built.trainer.train_dataset
    hashed = hash_rows(prepared)
    max_length = getattr(built.trainer.args, "max_length", None)
    packed = bool(getattr(built.trainer.args, "packing", False))
    return {
        "format": built.train.format,
        "rows": len(built.train.rows),
        "sequences": len(prepared),
        "dropped": None if packed else len(built.train.rows) - len(prepared),
        "max_length": max_length,
        "at_max_length": None if packed else _at_length(prepared, max_length),
        "tokens": hashed.tokens,
        "trained_tokens": hashed.trained or None,
        "eval_rows": len(built.eval.rows) if built.eval else 0,
        "fingerprint": built.train.fingerprint(),
        "sha256": hashed.sha256 if integer_columns(prepared) else built.train.fingerprint(),  # prompts become tokens within the step
        "trainable_sha256": _trainable_hash(built.trainer.model),
        "rewards_sha256": file_hash(Path(built.recipe.rewards["file"])) if built.recipe.rewards else None,
    }


def rows_as_arrays(trainer: Any) -> None:
    """Rows reach TRL's collator as arrays, not as lists of Python's numbers: the same batches (tests/contract/test_prepared_rows.py) in
    half of the time, which a GPU waits for at every update (15 ms of 306 on an H200, 8 rows of 2,048 tokens)."""
    if isinstance(trainer.data_collator, DataCollatorForLanguageModeling) and integer_columns(trainer.train_dataset):
        trainer.train_dataset = trainer.train_dataset.with_format("numpy")


@dataclass(frozen=True)
class Hashed:
    """`tokens`: of all sequences; `trained`: labels that count for the loss, 0 where the trainer makes no labels before the collator."""

    sha256: str
    tokens: int
    trained: int


def hash_rows(prepared: Any) -> Hashed:
    """Hash and counts of prepared rows (a `datasets.Dataset`), see `describe`."""
    digest = sha256()
    tokens = trained = 0
    for name in integer_columns(prepared):
        values, lengths = sha256(), sha256()
        for numbers, rows in lists(prepared, name):
            values.update(numbers.tobytes())  # 64 bit, little-endian on every box we train on
            lengths.update(rows.tobytes())
            tokens += len(numbers) if name in TOKENS else 0
            trained += int((numbers != IGNORED).sum()) if name == "labels" else 0
        digest.update(name.encode() + b"\0" + values.digest() + lengths.digest())
    return Hashed(digest.hexdigest(), tokens, trained)


def _trainable_hash(model: Any) -> str:
    """sha256 over the sorted names and shapes of what is trained: another adapter or another model, another hash."""
    trained = sorted((name, list(weight.shape)) for name, weight in model.named_parameters() if weight.requires_grad)
    return sha256(json.dumps(trained).encode()).hexdigest()


def warnings(data: dict[str, Any]) -> list[str]:
    """What TRL lost on the way, from the `data` event: it drops and cuts rows without a word."""
    told, length, rows = [], data["max_length"], data["rows"]
    if data["dropped"]:
        told.append(
            f"{data['dropped']} of {rows} rows were left out: within max_length {length} nothing of them counts for the loss; "
            "raise training.max_length"
        )
    if data["at_max_length"]:
        told.append(f"{data['at_max_length']} of {rows} rows fill max_length {length}; what is longer was cut off. Raise it to keep all")
    return told


def integer_columns(dataset: Any) -> list[str]:
    """The names of the columns that are lists of integers, sorted."""
    inner = {name: getattr(feature, "feature", None) for name, feature in dataset.features.items()}
    return sorted(name for name, kind in inner.items() if str(getattr(kind, "dtype", "")).startswith(("int", "uint")))


def lists(prepared: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """All integers of a list column and the length of each row, 64 bit, some rows at a time (a list a row would take minutes)."""
    import numpy

    for table in prepared.select_columns([name]).with_format("arrow").iter(batch_size=1000):
        lists = table[name].combine_chunks()
        yield (
            lists.flatten().to_numpy(zero_copy_only=False).astype(numpy.int64),
            lists.value_lengths().to_numpy(zero_copy_only=False).astype(numpy.int64),
        )


def _at_length(prepared: Any, max_length: int | None) -> int | None:
    """Rows that fill max_length, which are those that were cut (or fit to the token)."""
    if max_length is None or "input_ids" not in prepared.column_names:
        return None
    return sum(int((rows >= max_length).sum()) for _, rows in lists(prepared, "input_ids"))
