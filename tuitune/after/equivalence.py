"""Do two forms of one model say the same? Logits and greedy text on real prompts, in float32 arithmetic, so that only weights differ.

The reference is the adapter on its unquantised base, as it was trained. What is compared with it has the same weights up to their rounding:
the merged model (16 bits) or a GGUF file (8 or 16 bits).

How far may they differ? A weight rounded to a type with relative error e (root mean square: bfloat16 2^-9/√3, float16 2^-12/√3, Q8_0 about
0.0055, see ROUNDING) makes every product of a layer differ by about e of itself: the errors of thousands of weights are independent and
average like the terms of the sum. A block adds its output to the residual stream, so that after L layers of two such products in a row
(attention, MLP) their errors, independent again, have grown by at most √(2L): the centred logits differ by about e·√(2L) of their spread.
TOLERANCE times that is allowed; a model without its adapter, merged twice, or merged into 4-bit weights lies far beyond it unless the
adapter itself does less than the rounding, which is told (`effect`). Greedy text may part only at a tie: where the reference's own logits
of the two tokens lie closer together than four times the allowed difference of one logit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tuitune.after.loading import load
from tuitune.after.merge_plan import MergePlan
from tuitune.after.prompts import prompts_of, token_ids
from tuitune.errors import UserError

if TYPE_CHECKING:
    from tuitune.after.source import Source

ROUNDING = {"float32": 2**-20, "float16": 2**-12 / math.sqrt(3), "bfloat16": 2**-9 / math.sqrt(3), "Q8_0": 0.0055}
WEAK = 5.0  # an adapter of so few times the difference is half lost: steps below the grid of 16 bits vanish together, not at random
TOLERANCE = 2.0  # float32 above: the arithmetic of the comparison itself
PROMPTS = 20
NEW_TOKENS = 32  # with 20 prompts and a vocabulary of 150,000 the logits that are kept take 400 MB
BATCH = 10
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Spoken:
    """What a model says to the prompts: ids of its greedy answers ([]: not asked for), and float32 logits (on the CPU) for each token of
    the reference's."""

    answers: list[list[int]]
    logits: list[torch.Tensor]


@dataclass(frozen=True)
class Parted:
    """Where a greedy answer leaves the reference's: prompt and token from 0; `margin`: by how much the reference prefers its own token, in
    logits (None: one of the answers just ends there)."""

    prompt: int
    token: int
    margin: float | None


@dataclass(frozen=True)
class Difference:
    """Logits: `largest` and `mean` absolute difference; `relative`: root mean square of the difference over that of the reference's, both
    centred at each token. `kl`: mean of KL(reference ‖ other) in nats a token. `agree`: share of the reference's tokens that the other
    would have chosen too. `parted`: the answers that are not equal; None when none were asked for."""

    prompts: int
    tokens: int
    largest: float
    mean: float
    relative: float
    spread: float
    kl: float
    agree: float
    parted: tuple[Parted, ...] | None

    @property
    def same(self) -> int | None:
        """How many greedy answers are equal, token for token."""
        return None if self.parted is None else self.prompts - len(self.parted)

    def document(self) -> dict[str, Any]:
        """Plain data."""
        parted = self.parted and [vars(one) for one in self.parted]
        return {**vars(self), "parted": parted, "same": self.same}


def check_merge(source: "Source", plan: MergePlan, device: str, progress: Progress, stopped: Callable[[], bool]) -> dict[str, Any]:
    """The merged model in `plan.out` against `source`, loaded with plain transformers; and what 4-bit weights or no adapter do instead."""
    prompts, origin = prompts_of(source.recipe, PROMPTS)
    stages = 3 + source.quantized

    def stage(done: int, what: str) -> None:
        if stopped():
            raise UserError("stopped before the check was over; the merged model is written")
        progress(done, stages, what)

    stage(0, "the adapter on its base answers")
    model, tokenizer = load(source, adapter=True, four_bit=False, dtype="float32", device=device)
    ids, stops = [token_ids(tokenizer, prompt) for prompt in prompts], stop_ids(model, tokenizer)
    reference = speak(model, ids, stops)
    stage(1, "the base without the adapter answers")
    with model.disable_adapter():
        bare = difference(reference, speak(model, ids, stops, reference.answers, greedy=False))
    layers = layer_count(model)
    del model
    stage(2, "the merged model answers")
    merged = load_plain(str(plan.out), device)
    found = difference(reference, speak(merged, ids, stops, reference.answers))
    del merged
    document = judge(found, plan.dtype, layers, bare.relative) | {"data": origin, "effect": bare.document(), "layers": layers}
    if source.quantized:
        stage(3, "the adapter on the 4-bit base answers")
        small, _ = load(source, adapter=True, four_bit=True, dtype="float32", device=device)
        document["four_bit"] = difference(reference, speak(small, ids, stops, reference.answers, greedy=False)).document()
    progress(stages, stages, "checked")
    return document


def judge(found: Difference, rounding: str, layers: int, effect: float | None = None) -> dict[str, Any]:
    """Whether a difference is within what rounding to `rounding` explains, with a sentence. `effect`: the `relative` of doing without the
    adapter."""
    allowed = TOLERANCE * ROUNDING[rounding] * math.sqrt(2 * layers)
    parted = found.parted or ()
    ties = [one for one in parted if one.margin is not None and one.margin <= 4 * allowed * found.spread]
    passed = found.relative <= allowed and len(ties) == len(parted)
    texts = f"{found.same} of {found.prompts} greedy answers are equal" + (f", {len(ties)} part at a tie" if ties else "")
    words = f"logits differ by {found.relative:.2%} of their spread ({allowed:.2%} allowed for {rounding}), KL {found.kl:.1e} nats; {texts}"
    weak = effect is not None and effect < WEAK * found.relative
    if not passed:
        words = f"it does not say what the reference says: {words}"
    if weak:
        words += f"; the adapter itself changes them by {effect:.2%} only, and {rounding} swallows a part of it: use --dtype float32"
    return {
        "passed": passed,
        "words": words,
        "allowed": allowed,
        "rounding": rounding,
        "weak": weak,
        "ties": len(ties),
        **found.document(),
    }


def load_plain(name: str, device: str, **options: Any) -> Any:
    """A model as anybody would load it, in float32."""
    model = AutoModelForCausalLM.from_pretrained(
        name, dtype=torch.float32, use_safetensors=None if "gguf_file" in options else True, **options
    )
    return model.to(device).eval()


def load_tokenizer(name: str, **options: Any) -> Any:
    """Its tokenizer."""
    return AutoTokenizer.from_pretrained(name, **options)


def rounding_of(quant: str) -> str:
    """The name in ROUNDING of a GGUF type."""
    return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(quant, quant)


def layer_count(model: Any) -> int:
    """Transformer layers of a model."""
    return int(model.config.get_text_config().num_hidden_layers)


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """What ends an answer: the model's generation settings and the tokenizer's end."""
    written = model.generation_config.eos_token_id
    return sorted({stop for stop in (*(written if isinstance(written, list) else [written]), tokenizer.eos_token_id) if stop is not None})


def speak(
    model: Any, prompts: Sequence[Sequence[int]], stops: Sequence[int], given: Sequence[Sequence[int]] | None = None, *, greedy: bool = True
) -> Spoken:
    """Greedy answers to the prompts (token ids) up to one of `stops`, unless they are not wanted (4-bit weights take minutes over them on a
    CPU), and the logits of `given` answers (None: of its own)."""
    answers: list[list[int]] = []
    with torch.no_grad():
        for start in range(0, len(prompts) if greedy else 0, BATCH):
            answers += _greedy(model, prompts[start : start + BATCH], stops)
        logits = [_logits(model, prompt, answer) for prompt, answer in zip(prompts, answers if given is None else given, strict=True)]
    return Spoken(answers, logits)


def difference(reference: Spoken, other: Spoken) -> Difference:
    """How far `other`, which was given the reference's answers, is from it. UserError when their vocabularies differ."""
    largest = total = squares = spread = kl = 0.0
    count = tokens = agree = 0
    for ours, theirs in zip(reference.logits, other.logits, strict=True):
        if ours.shape != theirs.shape:
            raise UserError(
                f"the models have different vocabularies ({ours.shape[-1]} and {theirs.shape[-1]} tokens): no logit means the same"
            )
        apart = theirs - ours
        largest = max(largest, float(apart.abs().max()))
        total += float(apart.abs().sum())
        squares += float((apart - apart.mean(-1, keepdim=True)).double().square().sum())
        spread += float((ours - ours.mean(-1, keepdim=True)).double().square().sum())
        p, q = ours.log_softmax(-1), theirs.log_softmax(-1)
        kl += float((p.exp() * (p - q)).sum())
        agree += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        count, tokens = count + apart.numel(), tokens + len(apart)
    parted = [one for at in range(len(other.answers)) if (one := _parted(reference, other, at)) is not None]
    return Difference(
        prompts=len(reference.answers),
        tokens=tokens,
        largest=largest,
        mean=total / max(1, count),
        relative=math.sqrt(squares / spread) if spread else 0.0,
        spread=math.sqrt(spread / max(1, count)),
        kl=kl / max(1, tokens),
        agree=agree / max(1, tokens),
        parted=tuple(parted) if other.answers else None,
    )


def _parted(reference: Spoken, other: Spoken, at: int) -> Parted | None:
    ours, theirs = reference.answers[at], other.answers[at]
    if ours == theirs:
        return None
    token = next((place for place, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    if token >= min(len(ours), len(theirs)):  # one goes on where the other has ended: no token to compare with
        return Parted(at, token, None)
    logits = reference.logits[at][token]
    return Parted(at, token, float(logits[ours[token]] - logits[theirs[token]]))


def _greedy(model: Any, prompts: Sequence[Sequence[int]], stops: Sequence[int]) -> list[list[int]]:
    """Answers with their stop token, padded on the left; every setting that would change the choice is written out."""
    longest, pad = max(map(len, prompts)), min(stops, default=0)
    rows = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=model.device)
    plain = {"num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
    config = GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=list(stops) or None, pad_token_id=pad, **plain)
    made = model.generate(input_ids=rows, attention_mask=mask, generation_config=config)
    answers = []
    for row in made:
        answer = row[longest:].tolist()
        end = next((place for place, token in enumerate(answer) if token in stops), None)
        answers.append(answer if end is None else answer[: end + 1])
    return answers


def _logits(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
    """float32 logits of each token of the answer."""
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    found: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().cpu()
    return found
