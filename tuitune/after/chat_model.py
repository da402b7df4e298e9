"""One side of a chat: a model with its tokenizer that renders a conversation, answers it piece by piece, and tells what it would have said.

The template is the model's own; a model without one goes on with the text as it stands.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import transformers
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList, TextStreamer

from tuitune.after.chat_params import Params
from tuitune.errors import UserError
from tuitune.trainer.build import reason_of
from tuitune.trainer.sampling import stop_ids

Message = dict[str, str]


@dataclass
class Side:
    """`adapted` False: the adapter of `model`, which the other side uses, is left out. `words`: its name for people."""

    key: str
    words: str
    model: Any
    tokenizer: Any
    adapted: bool = True

    def using(self) -> AbstractContextManager[Any]:
        """Compute as this side."""
        return nullcontext() if self.adapted else self.model.disable_adapter()

    @property
    def room(self) -> int | None:
        """Tokens that prompt and answer may have together; None when the model does not say."""
        found: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found


@dataclass(frozen=True)
class Answer:
    """`ids` without the stop token; `tokens` with it. `seconds`: from the question to the end; `first`: to the first token."""

    text: str
    ids: list[int] = field(repr=False)
    tokens: int
    prompt_tokens: int
    seconds: float
    first: float
    ended: Literal["stop token", "length", "interrupted"]

    @property
    def speed(self) -> float | None:
        """Tokens a second after the first one, which waits for the prompt."""
        span = self.seconds - self.first
        return (self.tokens - 1) / span if self.tokens > 1 and span > 0 else None


def prompt_ids(side: Side, messages: Sequence[Message]) -> list[int]:
    """The conversation as the model is asked it. UserError when the template refuses it, or it leaves no room for an answer."""
    tokenizer = side.tokenizer
    if not tokenizer.chat_template:
        ids: list[int] = tokenizer(messages[-1]["content"])["input_ids"]
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
    else:
        try:
            ids = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        except Exception as error:
            raise UserError(f"{side.words}: this conversation cannot be asked: {reason_of(error)}") from error
    if not ids:
        raise UserError(f"{side.words}: there is nothing to go on with; write something")
    if side.room is not None and len(ids) >= side.room:
        raise UserError(
            f"{side.words}: the conversation has {len(ids)} tokens, and this model takes {side.room} with the answer: begin anew (reset)"
        )
    return ids


def answer(side: Side, ids: Sequence[int], params: Params, seed: int, say: Callable[[str], object], over: Callable[[], bool]) -> Answer:
    """Draw an answer to `ids`. `say` gets its text piece by piece, `over` is asked after each token whether to end. torch.OutOfMemoryError
    when there is no room for it."""
    stops = stop_ids(side.model, side.tokenizer)
    new = params.max_new_tokens if side.room is None else min(params.max_new_tokens, side.room - len(ids))
    streamer = _Pieces(side.tokenizer, stops, say)
    watch = _Watch(over)
    started = time.monotonic()
    transformers.set_seed(seed)
    row = torch.tensor([list(ids)], device=side.model.device)
    with side.using(), torch.inference_mode():
        made = side.model.generate(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            generation_config=_generation(params, new, sorted(stops), side.tokenizer),
            stopping_criteria=StoppingCriteriaList([watch]),
            streamer=streamer,
        )
    said: list[int] = made[0, len(ids) :].tolist()
    stopped = bool(said) and said[-1] in stops
    kept = said[:-1] if stopped else said
    ended: Literal["stop token", "length", "interrupted"] = "stop token" if stopped else "interrupted" if watch.ended else "length"
    text = side.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    now = time.monotonic()
    return Answer(text, kept, len(said), len(ids), now - started, (watch.first or now) - started, ended)


def probabilities(side: Side, ids: Sequence[int], said: Sequence[int], top: int) -> list[dict[str, Any]]:
    """Of each token of an answer: how probable the model itself held it (temperature 1, nothing cut off), and the `top` likeliest ones
    there. torch.OutOfMemoryError when there is no room for it."""
    if not said:
        return []
    row = torch.tensor([[*ids, *said]], device=side.model.device)
    with side.using(), torch.inference_mode():
        logits = side.model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False).logits[0, len(ids) - 1 : -1]
        found = torch.softmax(logits.float(), dim=-1)
    best = found.topk(min(top, found.shape[-1]), dim=-1)
    rows = zip(said, found, best.values.tolist(), best.indices.tolist())
    return [
        {
            "id": token,
            "text": _piece(side.tokenizer, token),
            "p": float(probable[token]),
            "top": [[_piece(side.tokenizer, other), p] for other, p in zip(others, values)],
        }
        for token, probable, values, others in rows
    ]


def _piece(tokenizer: Any, token: int) -> str:
    text: str = tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _generation(params: Params, new: int, stops: list[int], tokenizer: Any) -> GenerationConfig:
    """Every setting that would change the choice is written out, because absent ones come from the model's own settings."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0)
    drawn = {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k} if params.temperature > 0 else {}
    chosen = {"do_sample": bool(drawn), "temperature": 1.0, "top_p": 1.0, "top_k": 50, **drawn}
    fixed = {"num_beams": 1, "no_repeat_ngram_size": 0, "min_p": None, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
    return GenerationConfig(
        max_new_tokens=new,
        eos_token_id=stops or None,
        pad_token_id=pad,
        repetition_penalty=params.repetition_penalty,
        use_cache=True,
        **chosen,
        **fixed,
    )


class _Pieces(TextStreamer):  # type: ignore[misc]
    """transformers' own streamer, which holds back what later tokens may still change; its pieces go to `say` instead of stdout."""

    def __init__(self, tokenizer: Any, stops: set[int], say: Callable[[str], object]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        self._stops, self._say = stops, say

    def put(self, value: Any) -> None:
        """Take tokens as `generate` makes them; the stop token is no text."""
        if self.next_tokens_are_prompt or int(value.reshape(-1)[-1]) not in self._stops:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """A piece that stays as it is."""
        if text:
            self._say(text)


class _Watch(StoppingCriteria):  # type: ignore[misc]
    """Asks after each token whether to end, and notes when the first one came."""

    def __init__(self, over: Callable[[], bool]) -> None:
        self._over = over
        self.ended = False
        self.first: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.first = self.first or time.monotonic()
        self.ended = self._over()
        return torch.full((input_ids.shape[0],), self.ended, dtype=torch.bool, device=input_ids.device)
