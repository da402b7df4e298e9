"""What training costs elsewhere: the loss on a few general texts by skill, measured before the first step and every so many steps.

The loss is the model's own, in nats a token, on the plain text. It rises where the model forgets. How far a chat model's loss on plain text
is from its use is the same at every measurement, so that only the difference is read.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.recipe.recipe import resolve_path
from tuitune.text import printable
from tuitune.trainer.sample_rounds import EVERY
from tuitune.trainer.watching import Alarm, Log

MOST = 500  # texts: all of them are read every time
LONGEST = 512  # tokens of a text
TOGETHER = 4  # texts in a batch: their logits take 4 bytes a token and word of the vocabulary
SHARE, NATS = 0.10, 0.1  # a skill is being forgotten when its loss has risen by both


@dataclass(frozen=True)
class Text:
    """One text of a skill."""

    skill: str
    text: str


@dataclass
class ForgettingProbe:
    """`before`: what was measured before the first step of the run, by name: "forgetting" over all tokens, "forgetting/<skill>"."""

    texts: list[Text]
    every: int
    before: dict[str, float] | None = None
    told: set[str] = field(default_factory=set)

    def due(self, step: int) -> bool:
        """Whether it is measured after this step."""
        return step % self.every == 0

    def measure(self, trainer: Any) -> dict[str, float]:
        """Nats a token; training goes on as if nobody had asked. UserError when this trainer's model does not write."""
        from tuitune.trainer.sampling import text_losses

        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for text, (loss, tokens) in zip(self.texts, text_losses(trainer, [one.text for one in self.texts], LONGEST, TOGETHER), strict=True):
            for name in ("forgetting", f"forgetting/{text.skill}"):
                sums[name][0] += loss
                sums[name][1] += tokens
        return {name: loss / max(1, tokens) for name, (loss, tokens) in sums.items()}

    def look(self, log: Log, losses: Mapping[str, float]) -> Alarm | None:
        """An alarm with the skills whose loss has risen since `before`, once a skill until it is back; the first losses are `before`."""
        if self.before is None:
            self.before = dict(losses)
            return None
        worse = {
            name: loss - self.before[name]
            for name, loss in losses.items()
            if "/" in name and name in self.before and loss - self.before[name] > max(NATS, SHARE * self.before[name])
        }
        new, self.told = worse.keys() - self.told, set(worse)
        if not new:
            return None
        named = sorted(new, key=lambda name: -worse[name])
        listed = ", ".join(f"{name.partition('/')[2]} {self.before[name]:.2f} → {losses[name]:.2f}" for name in named[:4])
        advice = "a lower rate, fewer steps, or general data mixed in would keep more"
        return Alarm("forgetting", log.step, f"the model forgets (nats a token, before → now): {listed}; {advice}")


def probe_of(watch: Mapping[str, Any] | None, base: Path) -> ForgettingProbe | None:
    """As section `watch:` says; None when it names no probe. UserError when the file cannot be used."""
    section = watch or {}
    named = section.get("forgetting_probe")
    if not named:
        return None
    every = section.get("every") or EVERY
    if named == "builtin":
        return ForgettingProbe(
            _jsonl((files("tuitune.trainer") / "probes" / "builtin.jsonl").read_text(encoding="utf-8"), "builtin"), every
        )
    path = resolve_path(str(named), base)
    try:
        written = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"watch.forgetting_probe: {printable(str(path))} cannot be read ({error})") from error
    if path.suffix == ".jsonl":
        texts = _jsonl(written, printable(path.name))
    else:
        texts = [Text("texts", line) for line in written.splitlines() if line.strip()]
    if not 0 < len(texts) <= MOST:
        raise UserError(
            f"watch.forgetting_probe: {printable(str(path))} has {len(texts)} texts; 1 to {MOST} can be read every {every} steps"
        )
    return ForgettingProbe(texts, every)


def first_probe(journal: Path) -> dict[str, float] | None:
    """What an earlier attempt of this run measured before its first step; None when none did."""
    tail = JournalTail(journal)
    while records := tail.poll():
        for record in records:
            if record.get("ev") == "probe" and record.get("step") == 0 and isinstance(record.get("metrics"), dict):
                numbers = {str(name): as_number(value) for name, value in record["metrics"].items()}
                return {name: value for name, value in numbers.items() if value is not None}
    return None


def _jsonl(written: str, name: str) -> list[Text]:
    texts = []
    for number, line in enumerate(written.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            texts.append(Text(str(row.get("skill") or "texts"), row["text"] + ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"watch.forgetting_probe: {name}:{number} is no JSON object with a `text`") from error
    return texts
