"""Going on from a checkpoint, exactly where the run was: a mixin over any transformers Trainer, and what is compared before it.

transformers restores weights, optimizer, schedule and random states. What it gets wrong or does not know is put right here: the place in
the data after a change of the batch, the learning rate as it was set by hand, the last step, the type of the adapter's weights.
"""

from pathlib import Path
from typing import Any

import torch

from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.files import file_hash
from tuitune.recipe.recipe import Recipe
from tuitune.runs.checkpoints import damage, marked_files
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest
from tuitune.text import printable
from tuitune.trainer.kept import Kept, Progress, Shape, batches_to_skip, last_step, read_progress
from tuitune.trainer.live_settings import by_steps, live_scheduler, live_schedules

ENDLESS = 10**9  # epochs: transformers fixes their number at the start, and max_steps may grow; the last step is state.max_steps


class ResumingMixin:
    """Without `kept` it is the plain trainer."""

    kept: Kept | None = None
    _batches_in_epoch = 0
    _epochs_planned = 0
    args: Any
    state: Any
    model: Any
    lr_scheduler: Any
    _train_batch_size: int

    def take_up(self, checkpoint: Path, shape: Shape | None = None) -> Progress | None:
        """Before `train(resume_from_checkpoint=checkpoint)`: take over what it keeps. shape: the batch to go on with, None: as it was."""
        assert self.kept is not None
        progress = read_progress(checkpoint)
        if progress is not None:
            self.kept.progress = progress
        wanted = shape or (Shape(*progress.shape) if progress and progress.shape else Shape.of(self.args))
        self.args.per_device_train_batch_size = wanted.per_device_train_batch_size
        self.args.gradient_accumulation_steps = wanted.gradient_accumulation_steps
        self._train_batch_size = self.args.train_batch_size
        return progress

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own, without an end to the epochs; the schedule is planned for as many steps as at the run's start."""
        inherited: Any = super()
        epochs, updates, *more, batches, steps = inherited.set_initial_training_values(*args, **kwargs)
        if self.kept is None:
            return (epochs, updates, *more, batches, steps)
        self._epochs_planned, self._batches_in_epoch = epochs, batches
        if self.kept.progress.planned_steps is None:
            self.kept.progress.planned_steps = steps
        return (ENDLESS, updates, *more, batches, self.kept.progress.planned_steps)

    def _init_training_state(self, max_steps: int, updates: int, epochs: int, resume_from_checkpoint: Any, trial: Any) -> Any:
        """The trainer's own; the place in the data and the last step from what the checkpoint keeps."""
        inherited: Any = super()
        epoch, skip = inherited._init_training_state(max_steps, updates, epochs, resume_from_checkpoint, trial)
        if self.kept is None:
            return epoch, skip
        self.state.num_train_epochs = self._epochs_planned
        self.state.stateful_callbacks.setdefault(Kept.__name__, {})  # it may be missing in a checkpoint
        progress, shape = self.kept.progress, Shape.of(self.args)
        for kind in progress.strategies:
            by_steps(self.args, kind)
        if resume_from_checkpoint is None or progress.shape is None:
            return epoch, skip
        skip = batches_to_skip(progress, shape, self.args.world_size)
        wanted = progress.max_steps or (self.args.max_steps if self.args.max_steps > 0 else None)
        ends = last_step(progress, shape, self.state.global_step, skip, self.args.num_train_epochs, updates)
        self.state.max_steps = wanted or ends
        if self.state.global_step >= self.state.max_steps:
            return ENDLESS, 0  # killed after its last checkpoint: no epoch is left, and not a step more is trained
        return progress.epoch, 0 if self.args.ignore_data_skip else skip

    def create_scheduler(self, num_training_steps: int, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own, made changeable."""
        inherited: Any = super()
        scheduler = inherited.create_scheduler(num_training_steps, *args, **kwargs)
        return scheduler if self.kept is None else live_scheduler(scheduler, num_training_steps)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        """The trainer's own; where the training now ends with another step, the curve does as well."""
        inherited: Any = super()
        inherited._load_optimizer_and_scheduler(checkpoint)
        ends = self.kept.progress.ends if self.kept is not None and checkpoint is not None else None
        if ends is not None and ends != self.state.max_steps:
            for schedule in live_schedules(self):
                schedule.stretch(self.lr_scheduler.last_epoch, self.state.max_steps - self.state.global_step)

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """The trainer's own; peft brings adapters back in float32, whatever they were trained in (run-control.md 2.2)."""
        inherited: Any = super()
        types = {name: parameter.dtype for name, parameter in _trainable(self.model)}
        inherited._load_from_checkpoint(*args, **kwargs)
        for name, parameter in _trainable(self.model):
            if name in types and parameter.dtype != types[name]:
                parameter.data = parameter.data.to(types[name])


def _trainable(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def verify(checkpoint: Path, manifest: Manifest, data: dict[str, Any], *, read: bool = False) -> None:
    """That a checkpoint is what this run has written, and that the run would go on training the same weights on the same rows. `data`: of
    tuitune.trainer.prepared.describe. read: the hub has just read the files through, only their sizes are looked at once more. UserError
    with what differs and what to do; nothing of the checkpoint is loaded before."""
    files = marked_files(checkpoint)
    differs = f"{checkpoint.name} was never finished" if files is None else damage(checkpoint, files, hashes=not read)
    if differs is not None:
        name = checkpoint.parents[1].name
        raise UserError(f"{differs}; resume the run once more, and it goes on from an earlier checkpoint (tuitune resume {name})")
    compared = (
        ("trainable_sha256", "the weights that would be trained are not those of the checkpoint; put the recipe's peft: section back"),
        ("data_sha256", "the training data, or what is made of it, is not what the run has trained on; put the data and its settings back"),
    )
    for key, sentence in compared:
        before = getattr(manifest, key)
        if before is not None and data.get(key.removeprefix("data_")) not in (None, before):
            raise UserError(f"{sentence}, or start a new run with model.adapter: {checkpoint}")


def changed_rewards(manifest: Manifest, recipe: Recipe) -> str | None:
    """That the file with the reward functions is not the one the run has learnt by so far, in a sentence. It is told and not refused: a
    function that failed is mended before its run goes on."""
    before = manifest.rewards_sha256
    if before is None or recipe.rewards is None:
        return None
    file = Path(recipe.rewards["file"])
    now = file_hash(file)
    if now == before:
        return None
    return f"the reward functions have changed: {printable(str(file))} was {before[:12]}… and is {now[:12]}… (sha256)"


def changed_since(run: RunDirectory, attempt: int, now: dict[str, str | None]) -> list[str]:
    """What of the libraries is not what the attempt before this one had, in sentences."""
    records = JournalTail(run.journal, only=f"trainer-{attempt - 1}").poll()
    before = next((record.get("versions") for record in records if record.get("ev") == "hello"), None) or {}
    return [f"{name} was {before[name]} and is {now[name]}" for name in sorted(set(before) & set(now)) if before[name] != now[name]]
