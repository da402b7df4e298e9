"""What to change so that a run gets faster, as far as this run's own settings leave something to change. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from tuitune.recipe.update_rows import ACCUMULATION, BATCH
from tuitune.runs.slow.tally import Tally

Settings = Mapping[str, Any]
CHOSEN = "chosen"  # of Settings: the keys that tuitune has chosen itself
AIM = 0.05  # share of the time that evaluations, or checkpoints, may take
FACTORS = (2, 3, 4, 5, 6, 8, 10, 20, 50, 100)
FULL = 0.85  # of the card's memory; what is proposed stays below it
GROWS = 8  # times as much memory as with checkpointing is more than any measured run took without (shared/gpu/README.md: at most 5)


@dataclass(frozen=True)
class Proposal:
    """`words`: what to do; `changes`: of the recipe, (key, present value, new one); `live`: the command that does it while the run lives,
    as the dashboard's command bar and `tuitune send RUN` take it; `learns`: how it changes what is learnt, "" when it does not."""

    words: str
    changes: tuple[tuple[str, Any, Any], ...] = ()
    live: str = ""
    learns: str = ""

    @property
    def text(self) -> str:
        """All of it in one sentence."""
        return self.words + (f" (changes what is learnt: {self.learns})" if self.learns else "")


def less_often(tally: Tally, settings: Settings, what: str, seconds: float) -> Proposal | None:
    """Evaluate ("eval") or save ("save") every so many more steps, so that it takes AIM of the time; it stays at least two in a run.
    `seconds`: what all of them have taken. None where the present settings come to AIM by themselves: they may have been changed."""
    key = f"{what}_steps"
    steps, strategy = settings.get(f"training.{key}"), _word(settings.get(f"training.{what}_strategy"))
    fewer = Proposal("evaluate fewer rows: max_rows of dataset.eval") if what == "eval" else None
    if strategy == "epoch":
        return fewer if seconds > AIM * tally.total else None
    logs = tally.steady()
    count, each = tally.times.get(what, 0), sum(one.wall_ms * one.steps for one in logs) / 1000 / max(1, sum(one.steps for one in logs))
    if strategy != "steps" or not _count(steps) or not count or not each:
        return None
    wanted = seconds / count / each / (AIM / (1 - AIM)) / steps
    if wanted <= 1:
        return None
    factor = next((one for one in FACTORS if one >= wanted), FACTORS[-1])
    if tally.max_steps:
        factor = max((one for one in FACTORS if one <= factor and 2 * steps * one <= tally.max_steps), default=1)
    if factor == 1:
        return fewer
    price = "a crash then costs more steps" if what == "save" else ""
    if what == "eval" and settings.get("training.load_best_model_at_end"):
        price = "the best model is chosen among fewer"
    words = f"{key} {steps} → {steps * factor}" + (f"; {price}" if price else "")
    return Proposal(words, ((f"training.{key}", steps, steps * factor),), _live(tally, key, f"set {key}={steps * factor}"))


def more_workers(settings: Settings) -> Proposal | None:
    """Processes that make the batches beside the training; the rows and their order stay the same."""
    workers = settings.get("training.dataloader_num_workers")
    if not isinstance(workers, int) or isinstance(workers, bool) or workers >= 8:
        return None
    more = 2 * workers or 2
    return Proposal(
        f"dataloader_num_workers {workers} → {more}: the same rows in the same order", (("training.dataloader_num_workers", workers, more),)
    )


def less_padding(settings: Settings, *, launches: bool) -> Proposal | None:
    """Rows joined instead of padded to the longest; packed where tuitune has found that they cannot be joined, or where launches cost more
    than padding; where TRL cannot do that, smaller micro-batches of the same update."""
    asked = "training.padding_free" in settings.get(CHOSEN, ())
    if settings.get("recipe.task") == "sft" and settings.get("training.packing") is False and not (launches or asked):
        return Proposal("padding_free: auto joins the rows of a micro-batch: the same update", (("training.padding_free", False, "auto"),))
    if settings.get("recipe.task") == "sft" and settings.get("training.packing") is False and not settings.get("training.padding_free"):
        return Proposal(
            "packing: true, with a smaller gradient_accumulation_steps so that an update keeps its tokens",
            (("training.packing", False, True),),
            learns="rows share a sequence, and an update holds another number of them",
        )
    rows, micro = _written_batch(settings)
    if launches or not (_count(rows) and _count(micro)) or rows % 2:
        return None  # smaller micro-batches are more launches
    return _batch(rows, micro, rows // 2, micro * 2)


def larger_batches(tally: Tally, settings: Settings) -> Proposal | None:
    """Fewer and larger micro-batches of the same update, as far as memory is known to allow it; else more in an update."""
    rows, micro = _written_batch(settings)
    if not (_count(rows) and _count(micro)):
        return None
    factor = 1
    while micro % (2 * factor) == 0 and _fits(tally, 2 * factor):
        factor *= 2
    if factor > 1:
        return _batch(rows, micro, rows * factor, micro // factor, _live(tally, "reshape", "reshape"))
    if settings.get("recipe.task") == "sft" and settings.get("training.packing") is False:
        return less_padding(settings, launches=True)
    if micro == 1 and tally.memory is not None and _fits(tally, 2):
        change = (("training.per_device_train_batch_size", rows, 2 * rows),)
        return Proposal(f"per_device_train_batch_size {rows} → {2 * rows}", change, learns="an update holds twice as many rows")
    return None


def no_recomputation(tally: Tally, settings: Settings) -> Proposal | None:
    """Keep what the backward pass needs, where the card's memory is nearly empty."""
    key = next((name for name in ("activation_checkpointing", "gradient_checkpointing") if settings.get(f"training.{name}")), None)
    if key is None or tally.memory is None or not _fits(tally, GROWS):
        return None
    used, total = (f"{amount / (1 << 30):.1f}" for amount in tally.memory)
    return Proposal(
        f"{key}: false; {used} of {total} GiB are used, and tuitune plan says what it takes without", ((f"training.{key}", True, False),)
    )


def _written_batch(settings: Settings) -> tuple[Any, Any]:
    """Rows a micro-batch and micro-batches an update; None where tuitune has chosen them (launch.rows_per_update): a recipe may not say
    both."""
    keys = [f"training.{key}" for key in (BATCH, ACCUMULATION)]
    return (None, None) if keys[0] in settings.get(CHOSEN, ()) else (settings.get(keys[0]), settings.get(keys[1]))


def _batch(rows: int, micro: int, new_rows: int, new_micro: int, live: str = "") -> Proposal:
    names = BATCH, ACCUMULATION
    words = f"{names[0]} {rows} → {new_rows} and {names[1]} {micro} → {new_micro}: the same rows an update"
    changes = ((f"training.{names[0]}", rows, new_rows), (f"training.{names[1]}", micro, new_micro))
    return Proposal(words, changes, live and f"{live} {names[0]}={new_rows} {names[1]}={new_micro}")


def _fits(tally: Tally, factor: int) -> bool:
    """Whether `factor` times what the run takes at most, its weights included, is on the card. Unknown is no."""
    return tally.memory is not None and factor * tally.memory[0] <= FULL * tally.memory[1]


def _live(tally: Tally, name: str, command: str) -> str:
    return command if name in tally.takes else ""


def _count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _word(value: Any) -> str:
    """YAML 1.1 makes `no` a False, and libraries make words enums."""
    return str(value).rpartition(".")[2].lower()
