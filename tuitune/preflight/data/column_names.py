"""What columns are probably for, by their names and by what stands in them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tuitune.preflight.data_steps import is_talk
from tuitune.recipe.tasks import PROMPTED
from tuitune.recipe.values import nearest

# target → names that data sets give such a column, the usual ones first
ALSO = {
    "user": ("user", "question", "query", "instruction", "prompt", "input", "problem", "human", "request", "ask", "q", "source"),
    "assistant": (
        "assistant",
        "answer",
        "response",
        "output",
        "completion",
        "solution",
        "reply",
        "target",
        "gpt",
        "bot",
        "label_text",
        "a",
    ),
    "system": ("system", "system_prompt", "persona"),
    "text": ("text", "content", "document", "body", "raw_content", "story", "article"),
    "prompt": ("prompt", "question", "query", "instruction", "input", "user"),
    "completion": ("completion", "response", "answer", "output", "reply"),
    "chosen": ("chosen", "preferred", "accepted", "winner", "better", "chosen_response", "response_chosen", "positive", "good"),
    "rejected": ("rejected", "dispreferred", "loser", "worse", "rejected_response", "response_rejected", "negative", "bad"),
    "label": ("label", "desirable", "good", "liked", "thumbs_up"),
}
PAIRS = {  # what each task's columns may be, in order of preference; optional ones behind
    "sft": ((("user", "assistant"), ("system",)), (("text",), ())),
    "dpo": ((("prompt", "chosen", "rejected"), ()), (("chosen", "rejected"), ())),
    "reward": ((("prompt", "chosen", "rejected"), ()), (("chosen", "rejected"), ())),
    "kto": ((("prompt", "completion", "label"), ()),),
    **dict.fromkeys(("orpo", "cpo"), ((("prompt", "chosen", "rejected"), ()), (("chosen", "rejected"), ()))),
    **dict.fromkeys(PROMPTED, ((("user",), ("system",)),)),
}


def likely_columns(names: Sequence[str], task: str, first: Mapping[str, Any]) -> dict[str, str] | None:
    """target → column for the columns of a file whose `first` row this is; None when no guess is good."""
    if task == "sft" and (talk := next((name for name, value in first.items() if _has_roles(value)), None)):
        return {"messages": talk}
    for needed, optional in PAIRS.get(task, ()):
        found = _matched(names, needed)
        if found is not None:
            return {**found, **(_matched([name for name in names if name not in found.values()], optional) or {})}
    return None


def nearest_column(written: str, target: str, names: Collection[str]) -> str | None:
    """The column that was probably meant by a name that is not there."""
    same = [name for name in names if name.strip().lower() == written.strip().lower()]
    return same[0] if same else nearest(written, list(names)) or (_matched(list(names), (target,)) or {}).get(target)


def _matched(names: Sequence[str], targets: Sequence[str]) -> dict[str, str] | None:
    plain = {name.strip().lower().replace("-", "_").replace(" ", "_"): name for name in reversed(names)}
    found: dict[str, str] = {}
    for target in targets:
        known = next((plain[word] for word in ALSO[target] if word in plain and plain[word] not in found.values()), None)
        if known is None:
            return None
        found[target] = known
    return found


def _has_roles(value: Any) -> bool:
    return is_talk(value) and all(("role" in turn and "content" in turn) or ("from" in turn and "value" in turn) for turn in value)
