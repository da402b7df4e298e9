"""Does a merged reward model score as its adapter did? On the run's own texts, one by one, in float32 arithmetic.

A score is one product of the last hidden state h with the head w. By the argument of tuitune.after.equivalence each of them is off by about
e·√(2L) of itself after L layers; the errors of the sum's terms are independent, so that the score is off by about that share of
√Σ(h_i·w_i)², the scale below. One head is one draw of that error, where the logits of a vocabulary average over thousands: of 36 random
models rounded to bfloat16 (2 and 12 layers) it was 0.7 to 2.6 times as much, of a trained one of two layers 4 times. ONE_HEAD times is
allowed; without its adapter or with another head a model is off by tens of per cent.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForSequenceClassification

from tuitune.after.equivalence import PROMPTS, ROUNDING, Progress, layer_count
from tuitune.after.loading import load
from tuitune.after.merge_plan import MergePlan
from tuitune.after.prompts import prompts_of, token_ids
from tuitune.errors import UserError

ONE_HEAD = 6.0

if TYPE_CHECKING:
    from tuitune.after.source import Source


def check_scores(source: "Source", plan: MergePlan, device: str, progress: Progress, stopped: Callable[[], bool]) -> dict[str, Any]:
    """The merged model in `plan.out` against `source`, loaded with plain transformers."""
    prompts, origin = prompts_of(source.recipe, PROMPTS)
    progress(0, 2, "the adapter on its base judges")
    model, tokenizer = load(source, adapter=True, four_bit=False, dtype="float32", device=device)
    ids = [token_ids(tokenizer, prompt) for prompt in prompts]
    wanted, _ = judged(model, ids)
    del model
    if stopped():
        raise UserError("stopped before the check was over; the merged model is written")
    progress(1, 2, "the merged model judges")
    merged = AutoModelForSequenceClassification.from_pretrained(str(plan.out), dtype=torch.float32, use_safetensors=True).to(device).eval()
    found, scale = judged(merged, ids)
    progress(2, 2, "checked")
    return compare(wanted, found, scale, plan.dtype, layer_count(merged)) | {"data": origin}


def judged(model: Any, texts: Sequence[Sequence[int]]) -> tuple[list[float], float]:
    """The score of each text (token ids), and the root mean square of their scales."""
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module.out_features == 1][-1]
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0, -1].detach()))
    try:
        with torch.no_grad():
            scores = [float(model(input_ids=torch.tensor([text], device=model.device)).logits[0, 0]) for text in texts]
    finally:
        hook.remove()
    scales = [float((hidden * head.weight[0].detach()).double().square().sum()) for hidden in seen]
    return scores, math.sqrt(sum(scales) / len(scales))


def compare(wanted: Sequence[float], found: Sequence[float], scale: float, rounding: str, layers: int) -> dict[str, Any]:
    """Whether the scores differ by no more than rounding to `rounding` explains, with a sentence."""
    allowed = ONE_HEAD * ROUNDING[rounding] * math.sqrt(2 * layers)
    apart = math.sqrt(sum((ours - theirs) ** 2 for ours, theirs in zip(wanted, found, strict=True)) / len(wanted))
    relative = apart / scale if scale else 0.0
    passed = relative <= allowed
    pairs = [(one, other) for one in range(len(wanted)) for other in range(one)]
    same = sum((wanted[one] > wanted[other]) == (found[one] > found[other]) for one, other in pairs)
    words = f"scores differ by {relative:.2%} of their scale ({allowed:.2%} allowed for {rounding}); {same} of {len(pairs)} pairs of texts "
    words += "are in the same order"
    return {
        "passed": passed,
        "words": words if passed else f"it does not judge as the adapter does: {words}",
        "allowed": allowed,
        "rounding": rounding,
        "relative": relative,
        "prompts": len(wanted),
    }
