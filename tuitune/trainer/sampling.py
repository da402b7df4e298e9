"""What the model answers at this point of its training, and what the base model answered; training goes on as if nobody had asked.

Greedy, in the trainer's own precision. Random state, modes, buffers and counters are put back (tuitune.trainer.traceless), so that the
losses after it are those of a run without it, to the bit; only 4-bit weights on the CPU are packed anew by bitsandbytes, which later digits
show.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from tuitune.errors import UserError
from tuitune.trainer.build import reason_of
from tuitune.trainer.kernels import uncompiled
from tuitune.trainer.plain_adapter import base_is_changed
from tuitune.trainer.split_batch import free
from tuitune.trainer.traceless import without_trace

IGNORED = -100  # the label of a token that is not counted
GRAM = 4  # tokens that repeat together
FULL = "full fine-tuning keeps no base model in memory"
CHANGED = "the adapter's way to begin (PiSSA, OLoRA) has changed the base in memory"


@dataclass(frozen=True)
class Sample:
    """One answer. `tokens`: with the stop token; `repetition`: the share of its 4-grams that it had already said, 0 to 1."""

    prompt: str
    text: str
    tokens: int
    ended: Literal["stop token", "length", "time"]
    repetition: float

    @property
    def stopped(self) -> bool:
        """Whether the model itself ended it."""
        return self.ended == "stop token"


def sample(
    trainer: Any, prompts: Sequence[str], max_new_tokens: int, *, base: bool = False, conversational: bool = False, seconds: float = 30.0
) -> list[Sample]:
    """An answer to each prompt. `base`: without the adapter; `conversational`: as a user's turn through the chat template (when the
    tokenizer has one), else as raw text; `seconds`: of all answers together, then they are cut off.

    UserError when this trainer cannot answer, the template refuses, or a prompt alone does not fit into memory or the model's length.
    """
    why = why_not_sampled(trainer) or (why_no_base(trainer) if base else None)
    if why:
        raise UserError(why)
    tokenizer = trainer.processing_class
    ids = [_prompt_ids(tokenizer, prompt, conversational) for prompt in prompts]
    deadline = time.monotonic() + seconds
    size = max(1, trainer.args.eval_batch_size)
    answers: list[Sample] = []
    with asked(trainer, base):
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            answers += write_answers(trainer.model, tokenizer, prompts[part], ids[part], max_new_tokens, deadline)
    return answers


def text_losses(trainer: Any, texts: Sequence[str], longest: int, together: int) -> list[tuple[float, int]]:
    """Of each text (its first `longest` tokens): the sum of the model's losses in nats, and over how many tokens. UserError when this
    trainer's model does not write."""
    why = why_not_sampled(trainer)
    if why:
        raise UserError(why)
    found = []
    with asked(trainer, base=False):
        for start in range(0, len(texts), together):
            rows = [trainer.processing_class(text)["input_ids"][:longest] for text in texts[start : start + together]]
            found += row_losses(trainer.model, [(row, row) for row in rows])
    return found


def row_losses(model: Any, rows: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, int]]:
    """Of each (ids, labels) of one batch: the sum of the losses in nats over its labels (-100: not counted), and over how many tokens."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in rows], device=model.device)
    labels = torch.tensor([row + [IGNORED] * (width - len(row)) for _, row in rows], device=model.device)[:, 1:]
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED).sum(1)
    return list(zip(losses.tolist(), (labels != IGNORED).sum(1).tolist(), strict=True))


def why_not_sampled(trainer: Any) -> str | None:
    """Why this trainer's model cannot answer, or None when it can."""
    if not trainer.model.can_generate():
        return "a reward model judges answers and writes none"
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return "the weights are spread over the ranks (FSDP, DeepSpeed), so that one rank alone cannot answer"
    return None


def why_no_base(trainer: Any) -> str | None:
    """Why there is no base model to ask, or None when the adapter can be left out."""
    if not hasattr(trainer.model, "peft_config"):
        return FULL
    return CHANGED if base_is_changed(trainer.model) else None


def repetition(ids: Sequence[int]) -> float:
    """The share of 4-grams that were there before, 0 to 1; 0 for fewer than four tokens."""
    grams = [tuple(ids[start : start + GRAM]) for start in range(len(ids) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@contextmanager
def asked(trainer: Any, base: bool) -> Iterator[None]:
    """Evaluation mode, for `base` without the adapter; afterwards all is as it was."""
    model = trainer.model
    trained = [(weight, weight.requires_grad) for weight in model.parameters()]  # peft sets it anew with the adapter
    try:
        with without_trace(trainer), torch.no_grad(), trainer.accelerator.autocast():
            model.eval()
            with model.disable_adapter() if base else nullcontext():
                yield
    finally:
        for weight, wanted in trained:
            weight.requires_grad_(wanted)


def _prompt_ids(tokenizer: Any, prompt: str, conversational: bool) -> list[int]:
    if not conversational or not tokenizer.chat_template:
        ids: list[int] = tokenizer(prompt)["input_ids"]
        return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids
    try:
        turn = [{"role": "user", "content": prompt}]
        rendered: list[int] = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
    except Exception as error:
        raise UserError(f"the prompt cannot be asked: {reason_of(error)}") from error
    return rendered


def write_answers(model: Any, tokenizer: Any, prompts: Sequence[str], ids: Sequence[list[int]], new: int, deadline: float) -> list[Sample]:
    """The greedy answers of one batch, at most `new` tokens each and until `deadline` (time.monotonic); in halves when memory runs out.
    `ids`: of each prompt, with what begins the answer. UserError when one alone does not fit into memory or the model's length."""
    try:
        return _generate(model, tokenizer, prompts, ids, new, deadline)
    except torch.OutOfMemoryError as error:
        if len(ids) == 1:
            raise UserError(f"memory ran out over one answer of {new} tokens; ask for fewer (max_new_tokens)") from error
    free()
    half = len(ids) // 2
    parts = (slice(None, half), slice(half, None))
    return [answer for part in parts for answer in write_answers(model, tokenizer, prompts[part], ids[part], new, deadline)]


def _generate(model: Any, tokenizer: Any, prompts: Sequence[str], ids: Sequence[list[int]], new: int, deadline: float) -> list[Sample]:
    longest = max(map(len, ids))
    room = positions(model)
    if room is not None and longest >= room:
        raise UserError(f"a prompt of {longest} tokens leaves no room for an answer: the model takes {room}")
    new = new if room is None else min(new, room - longest)
    stops = stop_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0)
    rows = torch.tensor([[pad] * (longest - len(one)) + one for one in ids], device=model.device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in ids], device=model.device)
    with uncompiled(model):
        made = model.generate(
            input_ids=rows,
            attention_mask=mask,
            generation_config=_greedy(new, sorted(stops), pad),
            stopping_criteria=StoppingCriteriaList([_Deadline(deadline)]),
            use_cache=True,
        )
    answers = [row[longest:].tolist() for row in made]
    return [_sample(tokenizer, prompt, answer, stops, new) for prompt, answer in zip(prompts, answers, strict=True)]


def positions(model: Any) -> int | None:
    """How many tokens the model takes, prompt and answer together; None where its config does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _sample(tokenizer: Any, prompt: str, ids: list[int], stops: set[int], new: int) -> Sample:
    """What came before the first stop token; special tokens stay visible, as a turn that the model goes on with should be."""
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    said = ids[:end]
    ended: Literal["stop token", "length", "time"] = "stop token" if end is not None else "length" if len(ids) >= new else "time"
    text = tokenizer.decode(said, skip_special_tokens=False)
    return Sample(prompt, text, len(said) + (end is not None), ended, repetition(said))


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """What ends an answer where the model is used: its generation settings and the tokenizer."""
    written = model.generation_config.eos_token_id
    stops = set(written) if isinstance(written, list | tuple) else {written}
    return {stop for stop in (*stops, tokenizer.eos_token_id) if stop is not None}


def _greedy(new: int, stops: list[int], pad: int) -> GenerationConfig:
    """Every setting that would change the choice is written out, because absent ones come from the model's own settings."""
    plain = {"num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
    return GenerationConfig(do_sample=False, max_new_tokens=new, eos_token_id=stops or None, pad_token_id=pad, **plain)


class _Deadline(StoppingCriteria):  # type: ignore[misc]
    """Ends all answers of a batch at a moment of time.monotonic."""

    def __init__(self, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline, self.clock = deadline, clock

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        over = self.clock() >= self.deadline
        return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)
