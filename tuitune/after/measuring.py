"""What one model makes of the rows of an evaluation: losses, choices and answers, chunk by chunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tuitune.after import generate
from tuitune.after.examples import Example
from tuitune.after.figures import Scores
from tuitune.after.metrics import Wanted, chosen, compiled, exact, matches
from tuitune.after.prepare import Tokens, prepare, prompt_ids
from tuitune.recipe.recipe import Recipe

Told = Callable[[str, int], None]  # called with what has been done ("losses", …) and to how many rows more


@dataclass
class Rows:
    """The rows as token ids, equal for all sides: of each example, of its choices, and of what is asked ([] where nothing is). None: a row
    of which nothing counts within max_length."""

    examples: Sequence[Example]
    tokens: list[Tokens | None]
    choices: list[list[Tokens | None]]
    prompts: list[list[int]]

    @classmethod
    def of(cls, examples: Sequence[Example], wanted: Wanted, recipe: Recipe, tokenizer: Any) -> "Rows":
        """Prepared by TRL, what is asked rendered by the template. UserError when one of them refuses a row."""
        whole = [example.row for example in examples] if "nll" in wanted.names else []
        several = [choice for example in examples for choice in example.choices] if "choice" in wanted.names else []
        prepared = prepare(recipe, tokenizer, [*whole, *several]) if whole or several else []
        rest = iter(prepared[len(whole) :])
        return cls(
            examples,
            prepared[: len(whole)] or [None] * len(examples),
            [[next(rest) for _ in example.choices] if several else [] for example in examples],
            [prompt_ids(tokenizer, one) if wanted.generated and one.asked else [] for one in examples],
        )

    @property
    def unmeasured(self) -> int:
        """Rows whose loss cannot be read."""
        return sum(tokens is None for tokens in self.tokens)


def score(model: Any, tokenizer: Any, rows: Rows, chunk: range, wanted: Wanted, scores: list[Scores], new: int, told: Told) -> None:
    """Fill `scores` of the rows in `chunk`; answers have at most `new` tokens."""
    if "nll" in wanted.names:
        _read_losses(model, rows, chunk, scores, told)
    if "choice" in wanted.names:
        _choose(model, rows, chunk, scores, told)
    if wanted.generated:
        asked = [row for row in chunk if rows.prompts[row]]
        prompts = [rows.prompts[row] for row in asked]
        written = generate.answers(model, tokenizer, prompts, new, lambda count: told("answers", count))
        for row, answer in zip(asked, written, strict=True):
            _judge(scores[row], rows.examples[row].gold or "", answer, wanted)


def _read_losses(model: Any, rows: Rows, chunk: range, scores: list[Scores], told: Told) -> None:
    measured = {row: tokens for row in chunk if (tokens := rows.tokens[row]) is not None}
    losses = generate.losses(model, list(measured.values()), lambda count: told("losses", count))
    for row, found in zip(measured, losses, strict=True):
        scores[row].nats, scores[row].tokens = found


def _choose(model: Any, rows: Rows, chunk: range, scores: list[Scores], told: Told) -> None:
    """A row is left out when max_length cuts one of its choices away."""
    whole = {row: [tokens for tokens in rows.choices[row] if tokens is not None] for row in chunk if rows.choices[row]}
    whole = {row: choices for row, choices in whole.items() if len(choices) == len(rows.choices[row])}
    losses = iter(generate.losses(model, [one for choices in whole.values() for one in choices], lambda count: told("choices", count)))
    for row in whole:
        one, example = scores[row], rows.examples[row]
        one.choice_nats = [next(losses)[0] for _ in example.choices]
        sizes = [len(_text(choice["completion"]).encode()) for choice in example.choices]
        one.choice = chosen(one.choice_nats) == example.right
        one.choice_bytes = chosen(one.choice_nats, sizes) == example.right


def _text(completion: list[dict[str, Any]] | str) -> str:
    return completion if isinstance(completion, str) else "".join(str(turn.get("content") or "") for turn in completion)


def _judge(scores: Scores, gold: str, answer: Any, wanted: Wanted) -> None:
    """An answer that found no room in the model's length is wrong."""
    scores.answer = answer.text if answer is not None else ""
    scores.ended = answer.ended if answer is not None else "length"
    if "exact" in wanted.names:
        scores.exact = exact(scores.answer, gold)
    if wanted.pattern is not None:
        scores.regex = matches(compiled(wanted.pattern), scores.answer, gold)
