"""What `tokenizer.add_special_tokens` asks of the rest: rows of the embedding, keys of `peft:`. Arithmetic and words, no library."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuitune.recipe.problems import KeyPath

MULTIPLE = 64  # an embedding that grows gets a multiple of so many rows, which tensor cores multiply fastest
MOST = 1000  # so many tokens with untrained rows are a new vocabulary, which fine-tuning does not teach
KEY: KeyPath = ("tokenizer", "add_special_tokens")


@dataclass(frozen=True)
class Modules:
    """The model's embeddings as peft finds them. `output` is None where there is no head over the vocabulary (reward models)."""

    input: str
    output: str | None
    tied: bool

    @property
    def names(self) -> list[str]:
        """Those that a new token needs a trained row of."""
        return [self.input] if self.output is None else [self.input, self.output]


@dataclass(frozen=True)
class Objection:
    """A key of `peft:` that would leave new tokens untrained or unsaved. `instead`: the value that works; None: without the key."""

    key: str
    message: str
    instead: Any


def written_tokens(section: Mapping[str, Any]) -> list[str]:
    """The new tokens that a recipe's `tokenizer:` names."""
    return list(section.get("add_special_tokens") or [])


def rows_for(rows: int, ids: Iterable[int]) -> int:
    """Rows of an embedding that has `rows` once it has one for each of `ids`: never fewer, spare ones are used, else a multiple of 64."""
    needed = max(ids, default=-1) + 1
    return rows if needed <= rows else -(-needed // MULTIPLE) * MULTIPLE


def faults(tokens: Iterable[str]) -> Iterator[tuple[int, str]]:
    """What is wrong with a list of new tokens, by the number of the token."""
    seen: set[str] = set()
    for at, token in enumerate(tokens):
        if not token.strip():
            yield at, "a new token needs a text that is more than blanks"
        elif token in seen:
            yield at, f"{token!r} is named twice; once is enough"
        elif at == MOST:
            yield at, f"more than {MOST:,} new tokens cannot be learnt by fine-tuning; name those that the data really needs"
        seen.add(token)


def filled_in(peft: Mapping[str, Any], modules: Modules) -> dict[str, Any]:
    """What LoRA needs to train and save the rows of new tokens, as far as `peft` is silent on it.

    trainable_token_indices would be smaller, but TRL's fused loss does not see it on the output side (preflight-checks.md A.8).
    """
    wanted: dict[str, Any] = {"modules_to_save": modules.names}
    if modules.tied and modules.output:
        wanted["ensure_weight_tying"] = True
    return {key: value for key, value in wanted.items() if key not in peft}


def objections(peft: Mapping[str, Any], modules: Modules) -> Iterator[Objection]:
    """What is written in `peft:` and contradicts new tokens."""
    saved = peft.get("modules_to_save") or []
    missing = [name for name in modules.names if name not in saved]
    if "modules_to_save" in peft and missing:
        both = " and ".join(missing)
        yield Objection("modules_to_save", f"it must name {both} too: only there are the new tokens' rows trained", [*saved, *missing])
    if modules.tied and modules.output and peft.get("ensure_weight_tying", True) is not True:
        yield Objection("ensure_weight_tying", "input and output embedding are one here, and new tokens would drive them apart", True)
    if peft.get("trainable_token_indices"):
        yield Objection("trainable_token_indices", "it conflicts with modules_to_save, which trains the new tokens", None)
    targets = peft.get("target_modules")
    hit = [name for name in modules.names if isinstance(targets, list) and name in targets]
    if isinstance(targets, list) and hit:
        rest = [name for name in targets if name not in hit]
        yield Objection("target_modules", f"{' and '.join(hit)} cannot be both a LoRA target and trained whole", rest or "all-linear")
