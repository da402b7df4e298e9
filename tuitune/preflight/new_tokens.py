"""Checks of tokenizer.add_special_tokens against the rest of the recipe; that they are trained and saved is tuitune's own doing."""

from collections.abc import Iterator

from tuitune.preflight.context import Context
from tuitune.preflight.finding import Change, Fix, Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.recipe.new_tokens import KEY, Modules, objections, written_tokens


@check("NEW01", "error", "new tokens that would not be learnt", Stage.HEADERS)
def left_untrained(context: Context) -> Iterator[Found]:
    """`peft:` says something that leaves the rows of tokenizer.add_special_tokens untrained or unsaved.

    A new token begins as the mean of all others. LoRA trains the linear layers and leaves both embeddings as they are, so tuitune trains
    and saves a copy of them: modules_to_save, and ensure_weight_tying where they are one. It fills in only what `peft:` is silent on; a
    value of yours that contradicts is refused, by this check and by the trainer.
    Do: take the key out, or take the value that is offered.
    Known from: LlamaFactory#2684, #6749, peft#2018, #2777; TRL 1.16 with trainable_token_indices (AttributeError at the first step).
    """
    if not written_tokens(context.recipe.tokenizer) or context.recipe.peft is None:
        raise NotHere("the recipe adds no tokens to a LoRA run")
    modules = modules_of(context)
    for objection in objections(context.recipe.peft, modules):
        change = Change(("peft", objection.key), objection.instead, remove=objection.instead is None)
        title = f"Remove `{objection.key}`" if change.remove else f"Write `{objection.key}: {objection.instead}`"
        yield Found(
            f"peft.{objection.key} would leave the tokens of {'.'.join(map(str, KEY))} unlearnt: {objection.message}",
            context.at("peft", objection.key),
            {"key": objection.key, "needed": modules.names, "tied": modules.tied, "tokens": written_tokens(context.recipe.tokenizer)[:10]},
            Fix(title, automatic=True, changes=(change,)),
        )


def modules_of(context: Context) -> Modules:
    """The embeddings' module names by the weights' headers. NotHere when the weights have none of the usual names."""
    given, taken = context.model.input_embedding, context.model.output_embedding
    if given is None:
        raise NotHere("the weights have no embedding under a usual name")
    name = given.name.removesuffix(".weight").rpartition(".")[2]
    if context.recipe.task == "reward":
        return Modules(name, None, False)
    tied = context.model.tied
    head = taken.name.removesuffix(".weight").rpartition(".")[2] if taken else {"embed_in": "embed_out"}.get(name, "lm_head")
    return Modules(name, head, tied)
