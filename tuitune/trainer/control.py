"""Orders at step boundaries: a mixin over any transformers Trainer.

The boundary is the end of `_maybe_log_save_evaluate`: the step's own log, evaluation and checkpoint are done, and a stop there runs no
extra micro-batch (run-control.md 2.1). Private names it leans on are pinned by tests/contract/test_trainer_internals.py. It touches
neither data order nor random state: with no order the losses are those of the plain trainer.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tuitune.bus.envelope import OPS
from tuitune.errors import UserError
from tuitune.trainer.kept import Kept, Shape
from tuitune.trainer.live_settings import capabilities, change
from tuitune.trainer.orders import Order, Orders, Refused
from tuitune.trainer.resuming import ResumingMixin
from tuitune.trainer.saving import SavingMixin
from tuitune.trainer.snapshot import Snapshot
from tuitune.trainer.stop import StopRequest

if TYPE_CHECKING:
    import torch

    from tuitune.trainer.telemetry import Telemetry
    from tuitune.trainer.watch import Watch

PAUSES = ("keep", "trim", "suspend")


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Python's, NumPy's, torch's and the GPU's random states are after the block what they were before it."""
    import random

    import numpy
    import torch

    states = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)


def controlled(trainer_class: type[Any]) -> type[Any]:
    """`trainer_class` with the control mixin on top."""
    return type(f"Controlled{trainer_class.__name__}", (ControlMixin, SavingMixin, ResumingMixin, trainer_class), {})


@dataclass
class Reshape:
    """A change of the batch that waits for the training to go on from `checkpoint` with it."""

    order: Order
    before: Shape
    after: Shape
    checkpoint: Path
    begun: bool = False


class ControlMixin(SavingMixin, ResumingMixin):
    """The plain trainer until `steer` is called."""

    orders: Orders | None = None
    stop_request: StopRequest | None = None
    watch: "Watch | None" = None
    snapshot: Snapshot | None = None
    control: Any
    _heard = False  # whether the signal of stop_request has become an order
    _paused = ""  # why, while it is
    _reshape: Reshape | None = None
    _again: Callable[[], None]

    def steer(self, telemetry: "Telemetry", stop: StopRequest, orders: Orders) -> None:
        """Before `train`: from now on it takes orders and tells what it does."""
        self.telemetry, self.stop_request, self.orders, self.kept = telemetry, stop, orders, Kept()
        self.add_callback(self.kept)  # type: ignore[attr-defined]

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        def again() -> None:
            super(ControlMixin, self)._maybe_log_save_evaluate(*args, **kwargs)  # type: ignore[misc]

        if self.watch is not None:
            self.watch.before_boundary(self, *args)
            if self.watch.poisoned:
                self.control.should_save = False  # good checkpoints stay
        if self.telemetry is not None:
            self.telemetry.parts.step_ended()
        again()
        if self.watch is not None:
            self.watch.after_boundary(self)
        if self.telemetry is None or self.stop_request is None or self.orders is None:
            return
        self._again = again
        step = self.state.global_step
        self.telemetry.boundary(step)
        if self.snapshot is not None:
            self.snapshot.boundary()
        self._hear_signal()
        self._hear_alarms()
        self._carry_out(self.orders.take(step))
        if self._paused and not self.control.should_training_stop:
            with self.telemetry.phase("paused", self._paused):
                while self._paused and not self.control.should_training_stop:
                    self._hear_signal()
                    self._carry_out(self.orders.wait(step))
        if self.watch is not None:
            self.watch.step_begins()

    def _hear_signal(self) -> None:
        """A signal is an order like any other, so that all ranks stop at the same step."""
        assert self.orders is not None
        assert self.stop_request is not None
        if self.stop_request.asked and not self._heard and self.args.process_index == 0:
            self._heard = True
            self.orders.give({"op": "stop", "args": {"save": self.stop_request.save}, "why": self.stop_request.why})

    def _hear_alarms(self) -> None:
        """What the recipe wants done at an alarm is an order like any other; each process sees its alarms, and the first one's count."""
        assert self.orders is not None
        if self.watch is None:
            return
        wanted, self.watch.orders = self.watch.orders, []
        for order in wanted if self.args.process_index == 0 else ():
            self.orders.give(order)

    def _carry_out(self, orders: list[Order]) -> None:
        for order in orders:
            op, arguments = str(order.get("op")), order.get("args") or {}
            doing = getattr(self, f"_order_{op}", None) if op in OPS else None
            try:
                if doing is None:
                    raise Refused(f"unknown op {op!r}; this trainer takes {', '.join(OPS)}")
                with _memory_may_run_out(op):
                    told = doing(arguments, order)
            except Refused as refusal:
                self._tell(order, str(refusal))
            else:
                if told is not None:
                    self._tell(order, None, **told)

    def _tell(self, order: Order, error: str | None, **told: Any) -> None:
        """Journal what became of an order, and answer whoever gave it; what the trainer ordered by itself has no id."""
        assert self.telemetry is not None
        key, op, step = order.get("id"), order.get("op"), self.state.global_step
        told = {**told, **({"why": order["why"]} if order.get("why") else {})}
        if key is not None:
            self.telemetry.journal.emit("applied", id=key, op=op, by=order.get("by"), step=step, ok=error is None, error=error, **told)
            self.telemetry.link.reply(str(key), error is None, error, step=step, **told)

    def _order_stop(self, arguments: dict[str, Any], order: Order) -> dict[str, Any]:
        self._end(order.get("why") or f"stop by {_who(order)}", save=arguments.get("save") is not False)
        return {}

    def _end(self, why: str, *, save: bool, suspended: bool = False) -> None:
        """The training ends here."""
        assert self.telemetry is not None
        assert self.stop_request is not None
        save = save and not (self.watch is not None and self.watch.poisoned)
        self.stop_request.ask(why, save=save, suspended=suspended)
        self._heard = True
        if self.control.should_training_stop:
            return
        self.telemetry.state("stopping", step=self.state.global_step, why=why)
        if save and self.saved_step != self.state.global_step:
            self._now("save")  # a disk that refuses costs the checkpoint, not the stop
        self.control.should_training_stop = True

    def _order_save(self, arguments: dict[str, Any], order: Order) -> dict[str, Any]:
        self._refuse_poisoned()
        self._now("save")  # the mark is made beside the training: should the disk refuse that, the `checkpoint` event says so
        self._refuse_unless(self.saved_step == self.state.global_step)
        return {}

    def _order_sample(self, arguments: dict[str, Any], order: Order) -> dict[str, Any]:
        prompt, length = arguments.get("prompt"), arguments.get("max_new_tokens")
        if self.watch is None or not (prompt or self.watch.samples.prompts):
            raise Refused("there is nothing to answer: give a prompt (prompt=…), or name some in the recipe's watch.prompts")
        length = None if length is None else _size(arguments, "max_new_tokens", 0)
        assert self.telemetry is not None
        with self.telemetry.phase("evaluating"):
            try:
                answers = self.watch.samples.ask(self, self.state.global_step, [str(prompt)] if prompt else (), length)
            except UserError as error:
                raise Refused(str(error)) from error
        return {"answers": answers}

    def _refuse_poisoned(self) -> None:
        if self.watch is not None and self.watch.poisoned:
            raise Refused("loss or gradients are no numbers, and nothing is saved over the good checkpoints")

    def _order_evaluate(self, arguments: dict[str, Any], order: Order) -> dict[str, Any]:
        if getattr(self, "eval_dataset", None) is None:
            raise Refused("the recipe names no evaluation data (dataset.eval)")
        self._now("evaluate")
        return {}

    def _order_set(self, arguments: dict[str, Any], order: Order) -> dict[str, Any]:
        assert self.kept is not None
        made = change(self, self.kept.progress, arguments)
        return {"key": arguments["key"], "old": made.old, "new": made.new}

    def _order_pause(self, arguments: dict[str, Any], order: Order) -> dict[str, Any]:
        mode = arguments.get("mode") or "trim"
        if mode not in PAUSES:
            raise Refused(f"mode is {', '.join(PAUSES[:-1])} or {PAUSES[-1]}, not {mode!r}")
        why = str(order.get("why") or f"{'suspended' if mode == 'suspend' else 'paused'} by {_who(order)}")
        if mode == "suspend":
            self._refuse_at_the_end()
            self._save_here()
            self._end(why, save=False, suspended=True)
            return {"mode": mode}
        freed = _trim() if mode == "trim" else 0
        self._paused = why
        return {"mode": mode, "freed": freed}

    def _order_resume(self, arguments: dict[str, Any], order: Order) -> dict[str, Any]:
        if not self._paused:
            raise Refused("it is not paused")
        self._paused = ""
        return {}

    def _order_snapshot(self, arguments: dict[str, Any], order: Order) -> None:
        """Of the next step; the answer comes when it is written."""
        assert self.telemetry is not None
        folder = Path(self.args.output_dir).parent / "snapshots"
        self.snapshot = self.snapshot or Snapshot(folder)
        self.snapshot.begin(self.state.global_step + 1, lambda path, error: self._tell(order, error, path=str(path)))

    def _order_reshape(self, arguments: dict[str, Any], order: Order) -> None:
        """Save, end here, and go on from there with another batch (`train`); the answer comes when that has begun."""
        self._refuse_at_the_end()
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:  # type: ignore[attr-defined]
            raise Refused("a sharded run takes no other batch while it lives; suspend it and resume with other sizes")
        if hasattr(self.args, "num_generations"):
            raise Refused("its batch is made of groups of answers to one prompt; suspend it and resume with other sizes")
        before = Shape.of(self.args)
        after = Shape(*(_size(arguments, name, getattr(before, name)) for name in Shape.__dataclass_fields__))
        if after == before:
            raise Refused(f"the batch is {before} already")
        self._save_here()
        self._reshape = Reshape(order, before, after, self.checkpoint_folder(self.state.global_step))
        self._paused = ""
        self.control.should_training_stop = True

    def _save_here(self) -> None:
        """A checkpoint of this step. Refused when the disk does, and when there is nothing worth keeping."""
        self._refuse_poisoned()
        if self.saved_step != self.state.global_step:
            self._now("save")
        self.wait_for_mark()
        self._refuse_unless(self.checkpoint_folder(self.state.global_step).is_dir())

    def _refuse_unless(self, written: bool) -> None:
        """Whether a checkpoint was written, by the word of rank 0: all ranks refuse or none."""
        assert self.orders is not None
        refusal = self.orders.agree(None if written else "the checkpoint could not be written (the log says why); make room and try again")
        if refusal is not None:
            raise Refused(refusal)

    def _refuse_at_the_end(self) -> None:
        if self.control.should_training_stop:
            raise Refused("the training ends with this step")

    def _now(self, what: str) -> None:
        """Save or evaluate at this boundary: the step's log is guarded by its number, so only the wanted part runs again. The random
        state is put back after it, so that training goes on as if nobody had asked."""
        setattr(self.control, f"should_{what}", True)
        with random_state_kept():
            self._again()

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> "torch.Tensor":
        """The trainer's own step; counts the tokens that went in (padding apart) without waiting for the GPU."""
        if self.telemetry is not None:
            if isinstance(inputs, dict):  # else they are prompts still: `_prepare_inputs` makes the tokens
                self.telemetry.count(inputs)
            if self.orders is not None:
                self._hear_signal()
                self.orders.announce(self.state.global_step + 1)
        inherited: Any = super()
        if self.telemetry is None:
            return cast("torch.Tensor", inherited.training_step(model, inputs, *args, **kwargs))
        if self.watch is not None:
            result = self.watch.training_step(self, inherited.training_step, model, inputs, *args, **kwargs)
        else:
            result = inherited.training_step(model, inputs, *args, **kwargs)
        self.telemetry.parts.launched()
        return cast("torch.Tensor", result)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own fetch of an update's micro-batches, timed: what it takes is waiting for data."""
        inherited: Any = super()
        if self.telemetry is None:  # a proof
            return inherited.get_batch_samples(*args, **kwargs)
        self.telemetry.parts.fetch()
        fetched = inherited.get_batch_samples(*args, **kwargs)
        self.telemetry.parts.fetched()
        return fetched

    def _prepare_inputs(self, inputs: Any) -> Any:
        """The trainer's own; where it writes the answers (GRPO, RLOO) these are the tokens of the step."""
        inherited: Any = super()
        prepared = inherited._prepare_inputs(inputs)
        if self.telemetry is not None and not isinstance(inputs, dict) and self.model.training:
            self.telemetry.count(prepared)
        return prepared

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """The trainer's own training, begun again where the batch is changed; returns when the last checkpoint is marked as well."""
        inherited: Any = super()
        try:
            result = inherited.train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
            while self._reshape is not None and not (self.stop_request and self.stop_request.asked):
                reshape, self._reshape = self._reshape, None
                result = self._go_on(reshape, inherited, kwargs)
            return result
        finally:
            self.wait_for_mark()

    def _go_on(self, reshape: Reshape, inherited: Any, kwargs: dict[str, Any]) -> Any:
        """Train on from the reshape's checkpoint; with the batch as it was when the new one does not fit (the proof says so)."""
        assert self.kept is not None

        def begun() -> None:
            reshape.begun = True
            self._tell(reshape.order, None, old=asdict(reshape.before), new=asdict(reshape.after), max_steps=self.state.max_steps)

        self.take_up(reshape.checkpoint, reshape.after)
        self.kept.begun = begun
        try:
            return inherited.train(resume_from_checkpoint=str(reshape.checkpoint), **kwargs)
        except UserError as error:
            if reshape.begun:
                raise
            self._tell(reshape.order, f"it stays at {reshape.before}: {error}")
        finally:
            self.kept.begun = None
        self.take_up(reshape.checkpoint, reshape.before)
        return inherited.train(resume_from_checkpoint=str(reshape.checkpoint), **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The trainer's own evaluation, its state told."""
        inherited: Any = super()
        if self.telemetry is None:
            return dict(inherited.evaluate(*args, **kwargs))
        with self.telemetry.phase("evaluating"):
            metrics: dict[str, float] = inherited.evaluate(*args, **kwargs)
        self.telemetry.journal.emit("eval", step=self.state.global_step, metrics=metrics)
        return metrics


def caps(trainer: Any) -> list[dict[str, Any]]:
    """What this trainer takes, for its hello; the hub adds what it does by itself."""
    shape = Shape.of(trainer.args)
    more: dict[str, dict[str, Any]] = {
        "set": {"keys": capabilities(trainer)},
        "pause": {"modes": list(PAUSES)},
        "reshape": asdict(shape),
    }
    return [{"name": op, "effect": "now" if op in ("kill", "stacks") else "step", **more.get(op, {})} for op in OPS]


@contextmanager
def _memory_may_run_out(op: str) -> Iterator[None]:
    """An order that needs more GPU memory than there is costs the order, not the run."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        _trim()
        raise Refused(f"{op}: the GPU's memory is not enough for it beside the training ({str(error).splitlines()[0]})") from error


def _trim() -> int:
    """Give back what torch holds and does not use; bytes."""
    import torch

    gc.collect()
    if not torch.cuda.is_initialized():
        return 0
    before: int = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    after: int = torch.cuda.memory_reserved()
    return before - after


def _who(order: Order) -> str:
    return str(order.get("by") or "a command")


def _size(arguments: dict[str, Any], name: str, otherwise: int) -> int:
    value = arguments.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Refused(f"{name} takes a whole number from 1 on, not {value!r}")
    return value
