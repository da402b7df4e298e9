"""How long rows are and what of them is trained (DAT13, DAT14, DAT21, DAT24), on the rows as the trainer prepares them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuitune.preflight.data.answers import texts_in
from tuitune.preflight.data.common import SHOWN, share
from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

STEP = 64  # max_length is proposed in multiples of it
OUTLIER = 20  # times the median


@check("DAT13", "warning", "answers that max_length cuts off", Stage.ROWS)
def truncation_eats_completion(context: "CheckContext") -> Iterator[Found]:
    """Tokens that should be trained lie beyond max_length (TRL's default is 1024) and are cut off; a row whose prompt alone is that long
    is dropped without a word. More than 1 % of the rows or of the trained tokens is a warning, more than 20 % an error.

    Do: raise max_length (the 99th percentile of the lengths is proposed), or shorten or leave out the long rows.
    Known from: trl#6668, #6320, #1053; TRL drops rows whose labels are all -100.
    """
    import numpy as np

    limit, answers, remains = context.max_length, context.answers, context.trained
    if limit is None or not answers.total:
        return
    lost_rows = np.flatnonzero((answers.counts > 0) & (remains.counted == 0))
    lost = answers.total - int(remains.counted.sum())
    part = max(lost / answers.total, len(lost_rows) / len(answers.counts))
    if part <= 0.01:
        return
    longest_useful = answers.length_for(0.01)
    wanted = -(-max(longest_useful, int(np.percentile(answers.lengths, 99))) // STEP) * STEP
    room = context.positions
    fits = wanted > limit and (room is None or wanted <= room)
    advice = (
        f"training.max_length: {wanted} would keep 99 %"
        if fits
        else f"the model reads {room:,} tokens at most: shorten these rows, split them, or leave them out"
        if room is not None and wanted > room
        else "shorten these rows, or leave them out"
    )
    whole = f" and leaves nothing of {share(len(lost_rows), len(answers.counts))}" if len(lost_rows) else ""
    numbers = context.proven.prepared.rows[lost_rows if len(lost_rows) else np.flatnonzero(remains.counted < answers.counts)]
    first = int(numbers.min()) if len(numbers) else None
    yield Found(
        f"max_length {limit} cuts off {lost:,} of {answers.total:,} tokens that are to be learnt ({100 * lost / answers.total:.3g} %)"
        f"{whole}: {advice}",
        context.at("training", "max_length") if first is None else context.row(first),
        {
            "max_length": limit,
            "lost_tokens": lost,
            "trained_tokens": answers.total,
            "lost_rows": len(lost_rows),
            "rows": sorted(numbers.tolist())[:SHOWN],
            "proposed": wanted if fits else None,
        },
        Fix(f"Write training.max_length: {wanted}", changes=(Change(("training", "max_length"), wanted),)) if fits else None,
        "error" if part > 0.2 else "warning",
    )


@check("DAT14", "info", "rows longer than max_length", Stage.ROWS)
def over_long_share(context: "CheckContext") -> Iterator[Found]:
    """How many rows are longer than max_length. bfd packing and unpacked training cut them, bfd_split goes on with the rest in another
    sequence, wrapped cuts anywhere. More than a tenth of the rows cut is a warning.

    Do: raise max_length, or pack with bfd_split, which loses nothing.
    Known from: trl.pack_dataset.
    """
    import numpy as np

    limit, remains = context.max_length, context.trained
    if limit is None:
        return
    long = context.answers.lengths > limit
    if not long.any():
        return
    lost = int((remains.whole - remains.seen).clip(min=0).sum())
    first = int(context.proven.prepared.rows[np.flatnonzero(long)].min())
    what = f"{lost:,} tokens of them are cut off" if lost else "they are continued in other sequences, and nothing is lost"
    yield Found(
        f"{share(int(long.sum()), len(long))} are longer than max_length {limit}; {what}. "
        + ("Raise training.max_length, or pack with bfd_split" if lost else "Nothing is to be done"),
        context.row(first),
        {
            "count": int(long.sum()),
            "of": len(long),
            "max_length": limit,
            "lost_tokens": lost,
            "longest": int(context.answers.lengths.max()),
        },
        severity="warning" if lost and long.mean() > 0.1 else "info",
    )


@check("DAT21", "info", "rows of unusual length", Stage.ROWS)
def length_outliers(context: "CheckContext") -> Iterator[Found]:
    """Rows that are far longer than the others, answers of at most one token among longer ones, or texts that need a token for every
    character or so, as happens with a tokenizer for another language.

    Do: look at these rows.
    Known from: log files among conversations; English tokenizers on Thai.
    """
    import numpy as np

    answers, rows = context.answers, context.proven.prepared.rows
    middle = float(np.median(answers.lengths))
    long = answers.lengths > max(OUTLIER * middle, 512)
    if long.any():
        worst = int(answers.lengths.argmax())
        yield Found(
            f"{share(int(long.sum()), len(long))} are more than {OUTLIER} times as long as the median of {middle:.0f} tokens; the longest "
            f"has {int(answers.lengths[worst]):,}. They decide how much memory a step needs: look at them",
            context.row(int(rows[worst])),
            {"count": int(long.sum()), "median": middle, "longest": int(answers.lengths[worst]), "row": int(rows[worst])},
        )
    short = (answers.counts <= 2) & (answers.counts > 0)  # one token and the end of the turn
    if 0 < short.mean() < 0.2 and float(np.median(answers.counts)) > 8:
        first = int(rows[np.flatnonzero(short)].min())
        yield Found(
            f"{share(int(short.sum()), len(short))} have an answer of one token where the median is {np.median(answers.counts):.0f}: look "
            "whether something is missing there",
            context.row(first),
            {"count": int(short.sum()), "of": len(short), "rows": sorted(rows[short].tolist())[:SHOWN]},
        )
    yield from _dense(context)


def _dense(context: "CheckContext") -> Iterator[Found]:
    roles = {role: tokens for role, tokens in context.proven.prepared.roles.items() if role not in ("template", "unknown")}
    tokens = sum(int(numbers.sum()) for numbers in roles.values())
    characters = sum(len(text) for row in context.proven.prepared.rows.tolist() for text in texts_in(_contents(context.train.rows[row])))
    if tokens >= 1000 and characters < 1.5 * tokens:
        yield Found(
            f"the texts have {characters / tokens:.2f} characters a token: this tokenizer does not know the language, or it is one whose "
            "characters are words. Training and answers take that many more tokens",
            context.at("model", "name_or_path", view="tokens"),
            {"characters": characters, "tokens": tokens},
        )


def _contents(example: Any) -> list[Any]:
    """The contents of a row's turns, without their roles."""
    lists = [value for name, value in example.items() if name in ("messages", "prompt", "completion", "chosen", "rejected")]
    return [turn.get("content") for turns in lists if isinstance(turns, list) for turn in turns]


@check("DAT24", "info", "how many tokens are trained", Stage.ROWS)
def trained_token_count(context: "CheckContext") -> Iterator[Found]:
    """The number of tokens in the loss is the best single summary of a data set. None at all is an error: the trainer would have no rows.
    Rows that have none though nothing was cut off (an empty answer, a mask that never opens) are a warning from 1 % on.

    Do: when the number is not what you expect, look at rows in the token view (F7).
    Known from: "num_samples should be a positive integer value, but got num_samples=0".
    """
    import numpy as np

    answers, remains = context.answers, context.trained
    trained, seen = int(remains.counted.sum()), int(remains.seen.sum())
    evidence = {"trained_tokens": trained, "tokens": seen, "rows": len(answers.counts), "per_row": round(trained / len(answers.counts), 1)}
    if trained == 0:
        yield Found(
            f"none of the {len(answers.counts):,} rows has a token that is trained: the run has nothing to learn from. Look at a row in "
            "the token view, and at max_length, the columns and the loss mask",
            context.row(int(context.proven.prepared.rows.min())),
            evidence,
            severity="error",
        )
        return
    masked = np.flatnonzero(answers.counts == 0)
    if len(masked) > 0.01 * len(answers.counts):
        numbers = context.proven.prepared.rows[masked]
        yield Found(
            f"{share(len(masked), len(answers.counts))} have no token that is trained, though nothing of them was cut off: TRL drops them. "
            "Look whether their answers are empty or masked",
            context.row(int(numbers.min())),
            {**evidence, "masked_rows": sorted(numbers.tolist())[:SHOWN]},
            severity="warning",
        )
    yield Found(
        f"{trained:,} of {seen:,} tokens are trained ({100 * trained / max(seen, 1):.3g} %), {trained / len(answers.counts):.1f} a row",
        context.at("dataset", "train", view="tokens"),
        evidence,
    )
