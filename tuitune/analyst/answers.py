"""What of every row is to be trained before max_length cuts it: how many tokens, and where the last of them is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuitune.analyst.document import IGNORED
from tuitune.analyst.whole_set import Numbers, WholeSet


@dataclass
class Answers:
    """In the order of WholeSet.rows: `counts` of the tokens to be trained (both sides of a preference pair), `lengths` of the longest
    sequence; `places`: position of every trained token of the set, `firsts`: of each row's first one."""

    counts: Numbers
    lengths: Numbers
    places: Numbers
    firsts: Numbers

    @property
    def total(self) -> int:
        """Tokens to be trained."""
        return int(self.counts.sum())

    def length_for(self, loss: float) -> int:
        """The max_length (cut at the end) with which at most this share of the tokens is lost, and of the rows."""
        ends = (np.percentile(places, 100 * (1 - loss), method="higher") for places in (self.places, self.firsts) if len(places))
        return int(max(ends, default=0)) + 1


def answers(prepared: WholeSet) -> Answers:
    """Of a prepared set."""
    columns = prepared.columns
    if "prompt_ids" not in columns:
        ids, labels = columns["input_ids"], columns["labels"]
        inside = labels.values != IGNORED
        places = _positions(ids.lengths)
        whose = np.repeat(np.arange(len(ids.lengths)), ids.lengths)
        counts = np.bincount(whose[inside], minlength=len(ids.lengths)).astype(np.int64)
        firsts = np.full(len(ids.lengths), np.iinfo(np.int64).max)
        np.minimum.at(firsts, whose[inside], places[inside])
        return Answers(counts, ids.lengths, places[inside], firsts[counts > 0])
    prompt, chosen, rejected = (columns[name].lengths for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    places = np.concatenate([np.repeat(prompt, side) + _positions(side) for side in (chosen, rejected)])
    return Answers(chosen + rejected, prompt + np.maximum(chosen, rejected), places, prompt[chosen + rejected > 0])


def cut_alike(prepared: WholeSet, limit: int | None, args: Any) -> set[int]:
    """Rows of a preference set whose two sides are different, and the same once the collator has cut them to `limit`."""
    if limit is None:
        return set()
    keeps_end = getattr(args, "truncation_mode", "keep_start") == "keep_end"
    columns = (prepared.columns[name].rows() for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    found = set()
    for row, prompt, chosen, rejected in zip(prepared.rows.tolist(), *columns):
        sides = [list(prompt) + list(side) for side in (chosen, rejected)]
        seen = [side[-limit:] if keeps_end else side[:limit] for side in sides]
        if sides[0] != sides[1] and seen[0] == seen[1]:
            found.add(int(row))
    return found


def _positions(lengths: Numbers) -> Numbers:
    """0, 1, … for every row, one after the other."""
    starts: NDArray[np.int64] = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)
