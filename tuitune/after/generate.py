"""Losses and greedy answers of a loaded model on many rows, in batches that are halved when memory runs out."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tuitune.after.prepare import Tokens
from tuitune.errors import UserError
from tuitune.trainer.sampling import Sample, positions, row_losses, write_answers
from tuitune.trainer.split_batch import free

TOKENS = 4096  # of a batch whose losses are read, padding included: its logits take some 8 bytes a token and word of the vocabulary
TOGETHER = {"cuda": 128, "cpu": 16}  # answers written at a time

Progress = Callable[[int], None]  # called with how many rows are done since the last call


def losses(model: Any, rows: Sequence[Tokens], done: Progress = lambda count: None) -> list[tuple[float, int]]:
    """Of each row the sum of the losses in nats and over how many tokens, in the order of `rows`. UserError when one row alone does not
    fit into memory."""
    found: dict[int, tuple[float, int]] = {}
    with torch.no_grad():
        for batch in _batches([len(ids) for ids, _ in rows]):
            found |= zip(batch, _losses(model, [rows[number] for number in batch]), strict=True)
            done(len(batch))
    return [found[number] for number in range(len(rows))]


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers by length, longest first (memory runs out at once or not at all), as many together as TOKENS takes."""
    batches: list[list[int]] = []
    longest = 0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if not batches or (len(batches[-1]) + 1) * longest > TOKENS:
            batches.append([])
            longest = lengths[number]
        batches[-1].append(number)
    return batches


def _losses(model: Any, rows: Sequence[Tokens]) -> list[tuple[float, int]]:
    try:
        return row_losses(model, rows)
    except torch.OutOfMemoryError as error:
        if len(rows) == 1:
            raise UserError(f"memory ran out over one row of {len(rows[0][0])} tokens; free the GPU, or lower max_length") from error
    free()
    half = len(rows) // 2
    return _losses(model, rows[:half]) + _losses(model, rows[half:])


def answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], new: int, done: Progress = lambda count: None) -> list[Sample | None]:
    """The greedy answer to each prompt (ids), at most `new` tokens, in the order of `prompts`; None for a prompt that fills the model's
    length and leaves no room for one."""
    room = positions(model)
    found: dict[int, Sample] = {}
    fitting = [number for number, ids in enumerate(prompts) if room is None or len(ids) < room]
    fitting.sort(key=lambda number: -len(prompts[number]))
    with torch.no_grad():
        size = TOGETHER[model.device.type]
        for start in range(0, len(fitting), size):
            batch = fitting[start : start + size]
            ids = [prompts[number] for number in batch]
            found |= zip(batch, write_answers(model, tokenizer, [""] * len(batch), ids, new, math.inf), strict=True)
            done(len(batch))
    return [found.get(number) for number in range(len(prompts))]
