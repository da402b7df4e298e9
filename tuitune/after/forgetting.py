"""What a training cost elsewhere: the change of the loss on general texts, skill by skill, and whether it is more than chance and matters.

The texts are those of the probe that watches a training (tuitune.trainer.forgetting); pure arithmetic on losses that somebody has read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuitune.after.statistics import Interval, paired, ratio
from tuitune.trainer.forgetting import Text

LIMIT = 0.05
"""Nats a token. A skill is told as forgotten when the whole interval of its rise lies above it: chance alone is then no explanation, and
the rise is at least 5 % of perplexity. That is a quarter of what 4-bit weights cost SmolLM2-135M-Instruct on the built-in texts (0.21,
interval 0.17 to 0.26, measured), a price that many pay gladly; a limit below it would cry wolf. With six texts a skill an interval reaches
some 0.1 to each side, so that what is told is in practice a rise above 0.15: more than the alarm while training waits for (0.1 and a tenth
of the loss), which has no interval."""

REMEDY = (
    "mix general data into dataset.train (a second source with a `weight` of some 0.1 to 0.3), train fewer epochs, or lower "
    "training.learning_rate"
)

Loss = tuple[float, int]  # nats of a text, over how many tokens


@dataclass(frozen=True)
class Change:
    """A skill before and after, in nats a token; `interval` of the difference, None for a single text."""

    skill: str
    texts: int
    tokens: int
    before: float
    after: float
    interval: Interval | None

    @property
    def difference(self) -> float:
        return self.after - self.before

    @property
    def forgotten(self) -> bool:
        """Whether the whole interval lies above LIMIT."""
        return self.interval is not None and self.interval.low > LIMIT

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        interval = self.interval and self.interval.as_list()
        return {**vars(self), "difference": self.difference, "interval": interval, "forgotten": self.forgotten}


def changes(texts: Sequence[Text], before: Sequence[Loss], after: Sequence[Loss]) -> list[Change]:
    """Every skill in the order of the texts, then "all" of them. The same texts, read by the model before and after its training."""
    skills = dict.fromkeys(text.skill for text in texts)
    found = []
    for skill in (*skills, "all"):
        mine = [number for number, text in enumerate(texts) if skill in (text.skill, "all")]
        tokens = [before[number][1] for number in mine]
        early, late = ([losses[number][0] for number in mine] for losses in (before, after))
        found.append(Change(skill, len(mine), sum(tokens), ratio(early, tokens), ratio(late, tokens), paired(early, late, tokens)))
    return found


def warning(found: Sequence[Change]) -> str | None:
    """A sentence with the skills that are forgotten, worst first, and what to do; None when there is none."""
    worst = sorted((one for one in found if one.forgotten), key=lambda one: -one.difference)
    if not worst:
        return None
    listed = ", ".join(f"{one.skill} {one.before:.2f} → {one.after:.2f}" for one in worst)
    return f"the model has forgotten (nats a token, before → after): {listed}; {REMEDY}"
