"""Checks of preference pairs (PREF of section E of the catalogue)."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from tuitune.preflight.data.answers import FEW, texts_in
from tuitune.preflight.data.common import SHOWN, at, evidence, leave_out, line, share
from tuitune.preflight.finding import Found, NotHere, Where
from tuitune.preflight.registry import Stage, check

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.raw_rows import RawRow, RawSplit

LONGER = 1.1  # times the other's length: what counts as the longer answer


def _pairs(context: "CheckContext") -> "tuple[RawSplit, list[tuple[RawRow, dict[str, Any]]]]":
    split = context.raw("train")
    pairs = [(row, example) for row, example in split.fit if "chosen" in example and "rejected" in example]
    if not pairs:
        raise NotHere("the rows are no preference pairs")
    return split, pairs


def answers_of(example: Mapping[str, Any]) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) as texts; a prompt that both sides begin with is taken off them."""
    prompt, chosen, rejected = (example.get(name) for name in ("prompt", "chosen", "rejected"))
    if prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    said = ("\n".join(texts_in(_contents(part))) for part in (prompt, chosen, rejected))
    prompt, chosen, rejected = (" ".join(text.split()) for text in said)
    return prompt, chosen, rejected


def _shared(chosen: list[Any], rejected: list[Any]) -> int:
    """How many turns both begin with."""
    return next((n for n, (a, b) in enumerate(zip(chosen, rejected)) if a != b), min(len(chosen), len(rejected)))


def _contents(value: Any) -> Any:
    return [turn.get("content") for turn in value] if isinstance(value, list) else value


@check("PREF01", "warning", "both answers are the same", Stage.ROWS)
def chosen_equals_rejected(context: "CheckContext") -> Iterator[Found]:
    """Chosen and rejected are the same but for white space, or the same once max_length has cut them: the loss is ln 2 and the gradient
    zero, such pairs teach nothing. More than a tenth of the pairs is an error.

    Do: leave them out; raise max_length where it is what makes them equal.
    Known from: OpenRLHF#1311, #364; 7 % of UltraFeedback at 512 tokens.
    """
    split, pairs = _pairs(context)
    same = [row for row, example in pairs if (texts := answers_of(example))[1] == texts[2]]
    if same:
        yield _same(split, same, len(pairs), "are the same but for white space", at(split, same[0]))
    numbers = {row.row for row in same}
    cut = [row for row, _ in pairs if row.row not in numbers and row.row in context.cut_alike]
    if cut:
        yield _same(split, cut, len(pairs), f"are the same once max_length {context.max_length} has cut them", at(split, cut[0]))


def _same(split: "RawSplit", rows: "list[RawRow]", of: int, what: str, where: Where) -> Found:
    return Found(
        f"chosen and rejected of {share(len(rows), of)} {what}, the first at {line(rows[0])}: such pairs teach nothing. Leave them out",
        where,
        evidence(rows, of),
        leave_out(split, rows, "whose answers are the same"),
        "error" if len(rows) > 0.1 * of else "warning",
    )


@check("PREF02", "error", "pairs without a common prompt", Stage.DATA)
def prompt_not_shared(context: "CheckContext") -> Iterator[Found]:
    """Without a prompt column TRL takes what chosen and rejected both begin with as the prompt. Where that is nothing, or less than all
    but the last turn, parts of the prompt are trained as answers. (Reward models do not need a common prompt.)

    Do: map a prompt column, or leave these pairs out.
    Known from: trl.extract_prompt gives [].
    """
    split, pairs = _pairs(context)
    if context.recipe.task not in ("dpo", "orpo", "cpo"):
        raise NotHere("only DPO, ORPO and CPO need a common prompt")
    rows = [row for row, example in pairs if "prompt" not in example and not _has_prompt(example["chosen"], example["rejected"])]
    if rows:
        yield Found(
            f"chosen and rejected of {share(len(rows), len(pairs))} do not begin with the same prompt, the first at {line(rows[0])}: parts "
            "of the prompt would be trained as answers. Map a `prompt` column, or leave these pairs out",
            at(split, rows[0]),
            evidence(rows, len(pairs)),
            leave_out(split, rows, "without a common prompt"),
        )


def _has_prompt(chosen: Any, rejected: Any) -> bool:
    if isinstance(chosen, list) and isinstance(rejected, list):
        if chosen == rejected:  # PREF01's
            return True
        return (shared := _shared(chosen, rejected)) > 0 and shared >= max(len(chosen), len(rejected)) - 1
    return chosen == rejected or bool(chosen and rejected and chosen.split()[:1] == rejected.split()[:1])


@check("PREF03", "warning", "the better answer is the longer one", Stage.DATA)
def length_bias(context: "CheckContext") -> Iterator[Found]:
    """The chosen answers are much longer (or shorter) than the rejected ones: median ratio outside 0.67 to 1.5, or the chosen one longer
    in more than 80 % of the pairs. The model then learns length instead of quality.

    Do: take a loss that is normalised by length, or balance the pairs.
    Known from: Park et al. 2024, Disentangling Length from Quality in DPO.
    """
    split, pairs = _pairs(context)
    sizes = [(row, len(texts[1]), len(texts[2])) for row, example in pairs if (texts := answers_of(example))[1] != texts[2]]
    sizes = [(row, chosen, rejected) for row, chosen, rejected in sizes if chosen and rejected]
    if len(sizes) < FEW:
        raise NotHere(f"fewer than {FEW} pairs")
    ratio = median(chosen / rejected for _, chosen, rejected in sizes)
    longer = sum(chosen > LONGER * rejected for _, chosen, rejected in sizes) / len(sizes)
    if 0.67 <= ratio <= 1.5 and longer <= 0.8:
        return
    yield Found(
        f"the chosen answers are {ratio:.2f} times as long as the rejected ones (median of {len(sizes):,} pairs; longer in "
        f"{100 * longer:.0f} %): the model learns length instead of quality. Balance the pairs, or take a loss normalised by length",
        context.at("dataset", split.name),
        {"ratio": round(ratio, 3), "chosen_longer": round(longer, 3), "pairs": len(sizes)},
    )


@check("PREF04", "warning", "pairs that contradict each other", Stage.DATA)
def contradictory_pairs(context: "CheckContext") -> Iterator[Found]:
    """The same two answers to the same prompt are there the other way round: their gradients cancel out.

    Do: leave both out, or find out which of them is right.
    Known from: data sets labelled by several people.
    """
    split, pairs = _pairs(context)
    first: dict[tuple[str, str, str], RawRow] = {}
    against: list[tuple[RawRow, RawRow]] = []
    for row, example in pairs:
        prompt, chosen, rejected = answers_of(example)
        if chosen != rejected and (before := first.get((prompt, rejected, chosen))) is not None:
            against.append((row, before))
        first.setdefault((prompt, chosen, rejected), row)
    if against:
        row, before = against[0]
        rows = list({one.row: one for pair in against for one in pair}.values())
        yield Found(
            f"{share(len(against), len(pairs))} say the opposite of another pair, the first at {line(row)} (of {line(before)}): their "
            "gradients cancel out. Leave both out, or find out which is right",
            at(split, row),
            evidence([row for row, _ in against], len(pairs), pairs=[[one.row, other.row] for one, other in against[:SHOWN]]),
            leave_out(split, rows, "that contradict each other"),
        )


@check("PREF05", "error", "an answer that is not the assistant's", Stage.DATA)
def ends_with_the_assistant(context: "CheckContext") -> Iterator[Found]:
    """Chosen and rejected must end with a turn of the assistant; otherwise what a user says is preferred or rejected.

    Do: leave these pairs out, or cut them after the answer.
    Known from: conversations that were paired as a whole.
    """
    split, pairs = _pairs(context)

    def ends(value: Any) -> bool:
        return not isinstance(value, list) or (bool(value) and value[-1].get("role") == "assistant")

    rows = [row for row, example in pairs if not ends(example["chosen"]) or not ends(example["rejected"])]
    if rows:
        yield Found(
            f"chosen or rejected of {share(len(rows), len(pairs))} does not end with the assistant's turn, the first at {line(rows[0])}: "
            "what a user says would be preferred or rejected. Leave these pairs out, or cut them after the answer",
            at(split, rows[0]),
            evidence(rows, len(pairs)),
            leave_out(split, rows, "that do not end with an answer"),
        )
