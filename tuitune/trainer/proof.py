"""Proof before step 1: the longest batch goes through the trainer's own step, and its memory is told beside the plan's.

    load → optimizer step → forward → backward → evaluation

in this order, because from the second step on a batch finds the optimizer's states (and, between the micro-batches of one update, the
gradients) in memory. It costs one micro-batch forward and backward, one optimizer step and one evaluation batch, and leaves no trace:
losses, weights and order of the data are to the bit those of a run without it (tests/contract/test_proof.py, tuitune.trainer.traceless).

The optimizer's step is the real one, with gradients of zeros, wherever it can be undone exactly. Where it cannot (paged states, states of a
foreign package, no RAM for a copy of the weights) a block as large as the planned states stands for them, and the record says so. Not
proven: what other processes take later, samples, saving.

On the CPU it runs only when `launch.proof: true` asks for it: there is neither a plan nor a figure of torch's to compare, and the longest
batch can take a minute there. What remains is that every part of a step has run once.
"""

import re
import time
from contextlib import ExitStack, suppress
from typing import Any

import torch
from transformers import TrainerCallback

from tuitune.errors import UserError
from tuitune.memory.calibration import Measured, box_of, keep_measured, unused_share
from tuitune.memory.pace import keep_pace, key_of
from tuitune.preflight.cards import Card
from tuitune.trainer.build import Built
from tuitune.trainer.gauge import Gauge, on_card
from tuitune.trainer.longest import Collated, longest_batch
from tuitune.trainer.pace import Pace
from tuitune.trainer.proof_plan import Plan, plan_batches
from tuitune.trainer.proof_record import Found, Refused, batch_words, record, refusal
from tuitune.trainer.readings import OnCard, Reading
from tuitune.trainer.stop import StopRequest
from tuitune.trainer.telemetry import Telemetry
from tuitune.trainer.traceless import stepped, why_not_stepped, without_trace, zero_gradients


def is_wanted(built: Built) -> bool:
    """Whether `launch.proof` asks for it, or says nothing and a GPU is used."""
    wanted = built.recipe.launch.get("proof")
    return built.box.cuda if wanted is None else bool(wanted)


class ProofCallback(TrainerCallback):  # type: ignore[misc]
    """Proves the longest batch when model and optimizer are prepared, and only then lets the training begin: a stop before that ends the
    run at once. Added before the callback that counts training time. `run`: the run's name in the calibration file."""

    def __init__(self, built: Built, telemetry: Telemetry, stop: StopRequest, run: str) -> None:
        self.built, self.telemetry, self.stop, self.run = built, telemetry, stop, run
        self.idle: int | None = None  # bytes of the allocator's unused part that the plan explains; None: not learned from
        self.pace, self.plan = Pace(), Plan()

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        """Before step 1. UserError when the longest batch does not fit."""
        if is_wanted(self.built):
            proof = Proof(self.built, self.telemetry, train_dataloader)
            found, self.plan = proof.prove()
            expected = self.plan.expected
            self.idle = expected.idle if expected and expected.usual else None
            if found is not None and found.card is not None:
                self._keep(found.card, found.context, None)
        self.stop.begin()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Of an optimizer step."""
        self.pace.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before its log, evaluation and checkpoint."""
        self.pace.end()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The whole run's own figures take the place of the proof's: a proof has one batch, whose blocks are all used again."""
        if self.built.box.cuda and state.global_step and args.process_index == 0:
            card = on_card()
            context = None if card.process is None else card.process - torch.cuda.memory_reserved()
            peaks = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
            self._keep(card, context, None if self.idle is None else unused_share(*peaks, self.idle))
            self._keep_pace(card, args.gradient_accumulation_steps)

    def _keep_pace(self, card: OnCard, accumulation: int) -> None:
        """How long a micro-batch took, for later plans of this model, method and length."""
        box, seconds, plan = box_of(card.card, card.driver), self.pace.seconds, self.plan
        if box is not None and seconds is not None and plan.shape is not None and plan.settings is not None:
            with suppress(OSError):  # _keep has said it
                keep_pace(box, self.run, key_of(plan.shape, plan.settings), seconds / accumulation)

    def _keep(self, card: OnCard, context: int | None, unused: float | None) -> None:
        """Into this box's calibration, for later plans; not of several GPUs, where NCCL's buffers would count as every run's context."""
        box = box_of(card.card, card.driver)
        if box is None or self.built.trainer.args.world_size > 1:
            return
        try:
            keep_measured(box, self.run, Measured(context, unused))
        except OSError as error:
            self.telemetry.journal.emit("warning", text=f"later plans do not learn from this run: {error.filename}: {error.strerror}")


class Proof:
    """One proof; `prove` is called once."""

    def __init__(self, built: Built, telemetry: Telemetry, loader: Any) -> None:
        self.built, self.trainer, self.telemetry, self.loader = built, built.trainer, telemetry, loader
        self.phase = "load"
        self.readings: dict[str, Reading | None] = {}
        self.optimizer, self.evaluated = "", ""
        self.planned_states: torch.Tensor | None = None

    def prove(self) -> tuple[Found | None, Plan]:
        """Run it and journal it; what was measured, and the plan. UserError when the batch does not fit."""
        started = time.monotonic()
        padded = not getattr(self.trainer.data_collator, "padding_free", False)
        train = longest_batch(self.loader, self.trainer.args.train_batch_size, padded=padded)
        if train is None:
            self.telemetry.journal.emit("warning", text="the longest batch is not proven: its rows have no column of tokens to count")
            return None, Plan()
        evaluation = self._evaluation_batch(padded)
        self.telemetry.journal.emit("state", s="loading", why=f"proving the longest batch: {batch_words(train.batch)}")
        batches = train.batch, evaluation.batch if evaluation else None
        gauge = Gauge(self.built.box.cuda)
        card = gauge.card()
        plan = plan_batches(self.built.recipe, self._card(card), *batches) if gauge.cuda else Plan(why="the plan is about GPU memory")
        try:
            end, reserved = self._run(train, evaluation, gauge, plan)
        except torch.OutOfMemoryError as error:
            raise UserError(self._refuse(error, Found(*batches, self.readings, self.optimizer, self.evaluated), plan)) from error
        gauge.close()
        found = Found(*batches, self.readings, self.optimizer, self.evaluated, end, reserved)
        runs = plan.calibration.runs if plan.calibration else 0
        self.telemetry.journal.emit("proof", **record(found, plan.expected, plan.why, runs, time.monotonic() - started))
        return found, plan

    def _evaluation_batch(self, padded: bool) -> Collated | None:
        """The largest batch that the recipe's evaluations will see; None and a word why when there is none."""
        args = self.trainer.args
        if self.trainer.eval_dataset is None or (args.eval_strategy == "no" and not args.eval_on_start):
            self.evaluated = "the recipe evaluates nothing"
            return None
        if not self.built.box.cuda and self.built.recipe.quantization:
            self.evaluated = "not run: on the CPU bitsandbytes repacks 4-bit weights for it, which later steps would show"
            return None
        self.evaluated = "run"
        return longest_batch(self.trainer.get_eval_dataloader(), args.eval_batch_size, padded=padded)

    def _run(self, train: Collated, evaluation: Collated | None, gauge: Gauge, plan: Plan) -> tuple[OnCard, int | None]:
        """All phases without a trace; the card when everything has been in memory, and what torch had reserved then."""
        trainer = self.trainer
        told, trainer.telemetry = trainer.telemetry, None  # neither tokens nor evaluations of the proof count
        try:
            with without_trace(trainer), ExitStack() as undo:
                self.readings["load"] = gauge.read()
                self._step_optimizer(gauge, plan, undo)
                self._train_step(train, gauge)
                if evaluation is not None:
                    self._evaluate(evaluation, gauge)
                return gauge.card(), torch.cuda.memory_reserved() if gauge.cuda else None
        finally:
            trainer.telemetry = told
            self.planned_states = None

    def _step_optimizer(self, gauge: Gauge, plan: Plan, undo: ExitStack) -> None:
        """Bring the optimizer's states into memory; they go when `undo` is closed."""
        optimizer, self.phase = self.trainer.optimizer, "optimizer step"
        why_not = why_not_stepped(optimizer)
        zero_gradients(optimizer)
        if why_not is None:
            undo.enter_context(stepped(optimizer))
            self.optimizer = "stepped with gradients of zeros, and undone"
        elif plan.expected is not None and not optimizer.state:
            self.planned_states = torch.empty(plan.expected.states, dtype=torch.uint8, device=self.trainer.args.device)
            self.optimizer = f"planned, not measured: {why_not}"
        else:
            self.optimizer = f"not measured: {why_not}"
        self.trainer.model_wrapped.zero_grad(set_to_none=True)
        reading = gauge.read()
        if why_not is None:
            self.readings[self.phase] = reading
        if self.trainer.args.gradient_accumulation_steps > 1:
            zero_gradients(optimizer)  # what the micro-batches before this one have left

    def _train_step(self, train: Collated, gauge: Gauge) -> None:
        """Forward and backward, as one of the micro-batches of an update."""
        trainer, compute_loss = self.trainer, self.trainer.compute_loss
        self.phase = "forward"

        def loss_then_look(*args: Any, **kwargs: Any) -> Any:
            loss = compute_loss(*args, **kwargs)
            self.readings["forward"] = gauge.read()
            self.phase = "backward"
            return loss

        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
        trainer.compute_loss = loss_then_look
        try:
            trainer.training_step(trainer.model_wrapped, train.inputs)
        finally:
            del trainer.compute_loss
        self.readings["backward"] = gauge.read()
        trainer.model_wrapped.zero_grad(set_to_none=True)

    def _evaluate(self, evaluation: Collated, gauge: Gauge) -> None:
        """One batch, as the evaluation loop runs it."""
        trainer, self.phase = self.trainer, "evaluation"
        gauge.read()
        trainer.model_wrapped.eval()
        only_loss = trainer.compute_metrics is None or bool(trainer.args.prediction_loss_only)
        trainer.prediction_step(trainer.model_wrapped, evaluation.inputs, only_loss, ignore_keys=None)
        self.readings["evaluation"] = gauge.read()

    def _card(self, card: OnCard) -> Card:
        box = self.built.box
        return Card(card.card or box.name, _memory()[0], box.capability, driver=card.driver)

    def _refuse(self, error: torch.OutOfMemoryError, found: Found, plan: Plan) -> str:
        """Journal that memory ran out; the sentence to end with."""
        held, card, (memory, allowed) = torch.cuda.max_memory_allocated(), on_card(), _memory()
        room = min(allowed, memory - sum(one["mem"] or 0 for one in card.others))
        asked = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
        refused = Refused(self.phase, self.built.box.name, memory, room, held, asked[1] if asked else None, card.others)
        remedies = plan.remedies(room, self.phase, found.train, found.evaluation)
        planned = plan.expected.phases.get(self.phase) if plan.expected else None
        self.telemetry.journal.emit("oom", step=0, phase=self.phase, peak=held, planned=planned, advice=remedies, others=card.others)
        return refusal(refused, found, plan.expected, plan.why, remedies)


def _memory() -> tuple[int, int]:
    """Bytes of the card, and of it what this process may allocate."""
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return total, int(total * torch.cuda.get_per_process_memory_fraction())
