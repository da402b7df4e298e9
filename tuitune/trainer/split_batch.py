"""A micro-batch that runs out of memory is done again in parts: the same update, the same loss, the same metrics.

    forward and backward of the whole ── out of memory ──> two halves ── out of memory ──> quarters … one row, pair or document

A failure in the backward pass leaves part of a gradient behind. It is thrown away, and what the update had already done is done again:
the weights have not moved, and every part starts from the random numbers that it had, so its gradient is the same. So nothing is copied
at any step of a run that never runs out, and full fine-tuning is split like LoRA. (With dropout the parts of a split micro-batch draw other
masks than the whole would have drawn.) A size that has failed once is not tried again.

Not everything is a sum over rows; `why_whole` says what is not, and there the error goes on with that sentence, for the hub to classify.
"""

import gc
import re
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tuitune.trainer.pieces import DOCUMENTS, JOINED_ROWS, PAIRS, ROWS, Inputs, Layout, in_words
from tuitune.trainer.random_state import RandomState
from tuitune.trainer.split_metrics import joined

_OTHER_WORDS = re.compile(
    r"out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|can't allocate memory"
)  # of cuBLAS, Triton, the CPU's allocator
MIXING = frozenset({"aot", "aot_unpaired", "sft"})  # DPO losses that look at all pairs of a micro-batch at once

Tell = Callable[..., None]


@dataclass
class Piece:
    """A micro-batch or a part of it. `micro`: which one of the update, from 1; `share`: of the micro-batch's loss; `random`: what it
    started from, once it has run."""

    micro: int
    inputs: Inputs
    items: Any
    layout: Layout
    share: float = 1.0
    random: RandomState | None = None
    loss: torch.Tensor | None = None
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seen: int = 0  # tokens, as TRL counts them

    @property
    def tokens(self) -> int:
        return self.layout.tokens(self.inputs)


@dataclass
class SplitMemory:
    """What a run has learnt of its memory. `tell`: takes the fields of an `oom` event; `too_large`: the fewest tokens of a micro-batch (or
    of a part) that ran out of memory; `done`: what this update has gone through."""

    tell: Tell
    too_large: int | None = None
    done: list[Piece] = field(default_factory=list)
    micro: int = 0
    backward: bool = False  # whether the piece at work has come to its backward pass


def training_step(
    trainer: Any, inner: Callable[..., torch.Tensor], model: Any, inputs: Inputs, num_items_in_batch: Any, memory: SplitMemory
) -> torch.Tensor:
    """`inner(model, inputs, num_items_in_batch)`, the trainer's own step, in as many parts as memory asks for; the micro-batch's loss.

    The error of the allocator goes on, with the reason as a note and in the `oom` event, where nothing can be split.
    """
    if not _logs_by_piece(trainer):
        return _whole(trainer, inner, model, inputs, num_items_in_batch, memory)
    begun_elsewhere = _note_micro_batch(trainer, memory)
    whole = Piece(memory.micro, inputs, num_items_in_batch, _layout(trainer, inputs))
    work = deque(_fitting(whole, memory))
    while work:
        piece = work.popleft()
        try:
            _run(trainer, inner, model, piece, memory)
            memory.done.append(piece)
            continue
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            why = why_whole(trainer) or (begun_elsewhere if memory.backward else None) or _why_whole_piece(piece)
            if why:
                _tell(trainer, piece, memory, retry=None, why=why)
                error.add_note(f"The micro-batch cannot be done in smaller parts: {why}.")
                raise
        # outside of the handler, whose traceback held the graph
        halves = _halves(piece)
        memory.too_large = min(piece.tokens, memory.too_large or piece.tokens)
        again = _throw_away(model, memory) if memory.backward else []
        work = deque(part for left in (*again, *halves, *work) for part in _fitting(left, memory))
        _tell(trainer, piece, memory, retry=_division(piece, [*memory.done, *work]))
        free()
    return _finish(trainer, memory)


def _logs_by_piece(trainer: Any) -> bool:
    """Whether its metrics and micro-batches are known here. ORPO, CPO and online DPO keep metrics elsewhere; GRPO's and RLOO's
    micro-batches are prompts whose answers are written within the step."""
    import trl

    return isinstance(trainer, trl.SFTTrainer | trl.DPOTrainer | trl.KTOTrainer | trl.RewardTrainer)


def _whole(trainer: Any, inner: Callable[..., torch.Tensor], model: Any, inputs: Any, items: Any, memory: SplitMemory) -> torch.Tensor:
    """The trainer's own step; that memory ran out is told, with why nothing can be done about it here."""
    memory.micro = memory.micro % max(1, trainer.args.gradient_accumulation_steps) + 1
    try:
        return inner(model, inputs, items)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        why = why_whole(trainer)
        step = trainer.state.global_step + 1
        memory.tell(step=step, micro=memory.micro, phase="step", tokens=0, peak=peak(), retry=None, why=why)
        error.add_note(f"The micro-batch cannot be done in smaller parts: {why}.")
        raise


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator refused: torch's own class, or the words of the libraries below it."""
    return isinstance(error, torch.OutOfMemoryError) or _OTHER_WORDS.search(str(error)) is not None


def why_whole(trainer: Any) -> str | None:
    """Why no micro-batch of this trainer can be split, or None when it can."""
    import trl

    optimizer = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    if trainer.accelerator.num_processes > 1:
        return "with several processes every rank has to make the same calls, and the others would wait for this one"
    if "lomo" in optimizer or "layerwise" in optimizer:
        return f"{optimizer} changes the weights within the backward pass"
    if getattr(trainer.args, "activation_offloading", False):
        return "activation_offloading keeps what a failed pass has left"
    if getattr(trainer, "aux_loss_enabled", False):
        return "the balance loss of a mixture of experts is about the whole micro-batch"
    if isinstance(trainer, trl.SFTTrainer):
        return "the loss is a function of its own" if trainer.compute_loss_func is not None else None
    if isinstance(trainer, trl.DPOTrainer):
        mixing = MIXING.intersection(trainer.loss_types)
        return f"the loss {min(mixing)} is no mean over pairs" if mixing else None
    if isinstance(trainer, trl.RewardTrainer):
        return None
    return f"the loss of {type(trainer).__name__} is no sum over rows"


def _layout(trainer: Any, inputs: Inputs) -> Layout:
    import trl

    if not isinstance(trainer, trl.SFTTrainer):
        return PAIRS
    if "position_ids" not in inputs or "attention_mask" in inputs:
        return ROWS
    return DOCUMENTS if trainer.args.packing else JOINED_ROWS


def _note_micro_batch(trainer: Any, memory: SplitMemory) -> str | None:
    """Count it; a reason why its update cannot be done again when somebody else has begun it."""
    begun = any(weight.grad is not None for group in trainer.optimizer.param_groups for weight in group["params"])
    if not begun:
        memory.done.clear()
        memory.micro = 0
    memory.micro += 1
    return "there are gradients of unknown origin" if begun and not memory.done else None


def _fitting(piece: Piece, memory: SplitMemory) -> list[Piece]:
    """The piece in parts that have not failed yet, as far as it can be split."""
    if memory.too_large is None or piece.tokens < memory.too_large or piece.layout.count(piece.inputs) < 2:
        return [piece]
    return [part for half in _halves(piece) for part in _fitting(half, memory)]


def _why_whole_piece(piece: Piece) -> str | None:
    try:
        if piece.layout.count(piece.inputs) < 2:
            return f"one {piece.layout.word} alone does not fit"
        _halves(piece)
    except ValueError as error:
        return str(error)
    return None


def _halves(piece: Piece) -> list[Piece]:
    """The two halves of a piece of several units. ValueError when there is a tensor in it whose parts are not known."""
    layout, count = piece.layout, piece.layout.count(piece.inputs)
    cut = layout.middle(piece.inputs)
    parts = [layout.part(piece.inputs, 0, cut), layout.part(piece.inputs, cut, count)]
    first, second = (Piece(piece.micro, part, piece.items, layout, _share(piece, part)) for part in parts)
    first.random = piece.random
    return [first, second]


def _share(piece: Piece, part: Inputs) -> float:
    """A loss divided by the whole update's number of items (`num_items_in_batch`) adds up as it is; a mean over the micro-batch's own
    pairs or tokens is weighted by how many of them are in the part."""
    if piece.layout is not PAIRS and piece.items is not None:
        return 1.0
    unit = "units" if piece.layout is PAIRS else "tokens"
    return piece.share * piece.layout.weights(part)[unit] / max(1, piece.layout.weights(piece.inputs)[unit])


def _run(trainer: Any, inner: Callable[..., torch.Tensor], model: Any, piece: Piece, memory: SplitMemory) -> None:
    """Forward and backward of one piece; its loss and metrics are kept with it, and the trainer's own stay as they were."""
    if piece.random is None:
        piece.random = RandomState.take()
    else:
        piece.random.put_back()
    compute_loss, own = trainer.compute_loss, vars(trainer).get("compute_loss")
    metrics, before = trainer._metrics["train"], trainer._total_train_tokens
    memory.backward = False

    def shared_loss(*args: Any, **kwargs: Any) -> Any:
        loss = compute_loss(*args, **kwargs)
        memory.backward = True
        return loss if piece.share == 1.0 else loss * piece.share

    trainer._metrics["train"] = defaultdict(list)
    trainer.compute_loss = shared_loss
    try:
        piece.loss = inner(model, piece.inputs, piece.items)
        piece.metrics = {name: values for name, values in trainer._metrics["train"].items() if name != "num_tokens"}
        piece.seen = trainer._total_train_tokens - before
    finally:
        if own is None:
            del trainer.compute_loss
        else:
            trainer.compute_loss = own
        trainer._metrics["train"], trainer._total_train_tokens = metrics, before


def _throw_away(model: Any, memory: SplitMemory) -> list[Piece]:
    """Part of a gradient cannot be told from the whole: the update begins again. What it had done."""
    model.zero_grad()
    done, memory.done = memory.done, []
    return done


def _finish(trainer: Any, memory: SplitMemory) -> torch.Tensor:
    """The micro-batch's parts as one: their losses' sum, and TRL's metrics as of one."""
    parts = [piece for piece in memory.done if piece.micro == memory.micro]
    metrics = trainer._metrics["train"]
    for name, values in joined([(piece.layout.weights, piece.inputs, piece.metrics) for piece in parts]).items():
        metrics[name] += values
    trainer._total_train_tokens += sum(piece.seen for piece in parts)
    metrics["num_tokens"] = [trainer._total_train_tokens]
    losses = [piece.loss for piece in parts if piece.loss is not None]
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def _division(piece: Piece, pieces: Sequence[Piece]) -> str:
    counts = [part.layout.count(part.inputs) for part in pieces if part.micro == piece.micro]
    return in_words(piece.layout, counts)


def _tell(trainer: Any, piece: Piece, memory: SplitMemory, **more: Any) -> None:
    """An `oom` event: `step` is the update that was being made, `peak` in bytes (None on the CPU), `tokens` of the part that failed."""
    memory.tell(
        step=trainer.state.global_step + 1,
        micro=piece.micro,
        phase="backward" if memory.backward else "forward",
        tokens=piece.tokens,
        peak=peak(),
        **more,
    )


def peak() -> int | None:
    """Bytes of GPU memory that were in use at most since the start; None on the CPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None


def free() -> None:
    """Blocks of the failed attempt back to the driver, so that others of another size fit."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
