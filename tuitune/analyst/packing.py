"""How a set packs: fill and waste, and whether a row in a packed sequence sees only itself.

The latter is measured, not looked up: the hollow model (the recipe's own class, in float64) reads a packed batch of TRL's collator, and
what it says about the second document must not depend on the first (preflight-checks.md A.9).
"""

from typing import Any

import torch

from tuitune.analyst.survey_document import Packing
from tuitune.analyst.trained_rows import Trained
from tuitune.text import printable
from tuitune.trainer.build import Built

DOCUMENT = 24  # tokens of a test document
SAME = 1e-9  # largest difference of two float64 logits that are the same; a leak makes 1e-6 and more in a model this small


def packing(built: Built, remains: Trained) -> Packing:
    """Figures of a packed set."""
    args = built.trainer.args
    apart, why = documents_apart(built)
    return Packing(
        args.packing_strategy,
        len(remains.dataset),
        int(args.max_length),
        int(remains.seen.sum()),
        int((remains.parts > 1).sum()),
        apart,
        why,
    )


def documents_apart(built: Built) -> tuple[str, str]:
    """("yes" | "no" | "unknown", one sentence)."""
    wanted = str(built.recipe.model.get("attn_implementation") or "auto")
    model = built.trainer.model.double().eval()
    used = str(getattr(model.config, "_attn_implementation", "eager"))
    if wanted not in ("auto", used):
        return "unknown", f"{printable(wanted)} needs a GPU; with {used} it can be tried here"
    try:
        with torch.no_grad():
            one, other = (_second_document(built, model, first) for first in (3, 5))
    except Exception as error:
        return "unknown", f"{type(model).__name__} cannot be tried on the CPU: {printable(str(error).partition(chr(10))[0], limit=120)}"
    largest = float((one - other).abs().max())
    if largest <= SAME:
        return "yes", f"tried with {used}: what a row's tokens see does not change with the row before it in the sequence"
    return "no", (
        f"tried with {used}: tokens of a row see the row before it in the sequence (strategy {built.trainer.args.packing_strategy}); "
        "take bfd with a model and attention that keep them apart, or packing: false"
    )


def _second_document(built: Built, model: Any, first: int) -> torch.Tensor:
    """Logits of the second of two documents in one packed sequence; `first` is the token that fills the first document."""
    second = [7 + at % 11 for at in range(DOCUMENT)]
    ids = [first] * DOCUMENT + second
    example: dict[str, Any] = {"input_ids": ids, "labels": list(ids)}
    if built.trainer.args.packing_strategy != "wrapped":
        example["seq_lengths"] = [DOCUMENT, DOCUMENT]
    batch = dict(built.trainer.data_collator([example]))
    batch.pop("labels", None)
    batch = {name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    logits: torch.Tensor = model(**batch, use_cache=False).logits
    return logits[0, -DOCUMENT:]
