"""What the analyst has seen of a recipe's rows, kept so that the trainer can say whether that is what it trains on (first promise), and so
that the memory plan knows how long they are.

One small JSON file a recipe in the cache. Its name is a hash of all that decides how rows are prepared; what it holds is the data's
fingerprint, the hash of ids and labels (tuitune.trainer.prepared), and the lengths of the sequences with the state of their files.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuitune.dataset import lengths as data_lengths
from tuitune.dataset.lengths import Lengths
from tuitune.files import cache_dir, write_atomically
from tuitune.recipe.recipe import Recipe
from tuitune.versions import installed

# Keys of `training:` that have nothing to do with how rows are prepared, by their beginnings.
BESIDE = (
    "learning_rate", "lr_", "warmup_", "optim", "weight_decay", "adam_", "max_grad_norm", "num_train_epochs", "max_steps", "per_device_",
    "gradient_", "activation_", "logging_", "save_", "eval_", "bf16", "fp16", "tf32", "use_cpu", "dataloader_", "report_to", "run_name",
    "torch_compile", "use_liger", "neftune_", "load_best", "metric_for", "push_to_hub", "hub_",
)  # fmt: skip


def remember(
    recipe: Recipe, fingerprint: str, rows_sha256: str, lengths: Lengths | None = None, stamp: dict[str, Any] | None = None
) -> None:
    """Keep what was seen. `stamp`: of tuitune.dataset.lengths, taken before the rows were read; without it the lengths are not kept.
    OSError when the cache cannot be written."""
    path = _place(recipe)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    seen: dict[str, Any] = {"fingerprint": fingerprint, "sha256": rows_sha256}
    if lengths is not None and stamp is not None:
        seen |= {"lengths": data_lengths.as_json(lengths), "stamp": stamp}
    write_atomically(path, json.dumps(seen, default=str), mode=0o600)


def compare(recipe: Recipe, fingerprint: str, rows_sha256: str) -> tuple[str, str]:
    """("same" | "data changed" | "different" | "not looked at", a sentence to warn with or "")."""
    try:
        seen = json.loads(_place(recipe).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "not looked at", ""
    if seen.get("sha256") == rows_sha256:
        return "same", ""
    if seen.get("fingerprint") != fingerprint:
        return (
            "data changed",
            "the data has changed since its rows were last looked at; F7 or `tuitune inspect --all` shows what is trained now",
        )
    return "different", (
        "the rows that are trained are not those that the inspection showed, though the data is the same: the model's tokenizer or "
        "template has changed since, or this is a fault of tuitune; look again with F7 or `tuitune inspect --all`"
    )


def known_lengths(recipe: Recipe) -> tuple[Lengths | None, str]:
    """(how long the sequences of the training set are, "") when all of it was looked at and is as it was; else (None, why not)."""
    try:
        seen = json.loads(_place(recipe).read_text(encoding="utf-8"))
        found = data_lengths.from_json(seen["lengths"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, "the data has not been looked at"
    if seen.get("stamp") != data_lengths.stamp(recipe):
        return None, "the data or the tokenizer has changed since it was looked at"
    return found, ""


def _place(recipe: Recipe) -> Path:
    decisive = {
        "task": recipe.task,
        "model": {key: recipe.model.get(key) for key in ("name_or_path", "revision", "trust_remote_code")},
        "tokenizer": recipe.tokenizer,
        "train": recipe.dataset.get("train"),
        "training": {key: value for key, value in recipe.training.items() if not key.startswith(BESIDE)},
        "versions": installed(),
    }
    name = sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return cache_dir() / "looked-at" / f"{name}.json"
