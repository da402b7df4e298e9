"""Checks of what the loss sees and how strongly it acts: learning rate, scope, positions."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuitune.preflight.context import DocumentContext
from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

# (task, adapter) → (lowest, highest, a usual one): outside of these a run mostly learns nothing or falls apart
RATES: dict[tuple[str, bool], tuple[float, float, float]] = {
    ("sft", True): (1e-5, 1e-3, 2e-4),
    ("sft", False): (0.0, 5e-5, 1e-5),
    ("dpo", True): (0.0, 1e-5, 5e-6),
    ("dpo", False): (0.0, 5e-6, 5e-7),
    ("kto", True): (0.0, 1e-5, 5e-6),
    ("kto", False): (0.0, 5e-6, 5e-7),
    ("reward", True): (0.0, 1e-3, 1e-4),
    **{(task, True): (0.0, 1e-4, 5e-6) for task in ("orpo", "cpo", "grpo", "rloo", "online_dpo")},
    **{(task, False): (0.0, 1e-5, 1e-6) for task in ("orpo", "cpo", "grpo", "rloo", "online_dpo")},
}
LITTLE = 0.2  # the assistant's share of the turns' tokens in the loss, without the template's, below which a run learns to write prompts
POSITIONS = ("wpe.weight", "embed_positions.weight", "position_embeddings.weight")  # learned positions: a row for each
OFFSET = {"opt": 2, "xglm": 2, "biogpt": 2}  # rows of that table before position 0


@check("TRN08", "warning", "an unusual learning rate", Stage.RECIPE)
def learning_rate(context: DocumentContext) -> Iterator[Found]:
    """The learning rate is of another method: what LoRA needs destroys a model whose weights are all trained, and what full fine-tuning
    needs moves an adapter hardly at all.

    Rule: SFT with an adapter 1e-5 to 1e-3, of all weights up to 5e-5; DPO and KTO up to 1e-5, of all weights 5e-6;
    ORPO, CPO and the rewarded methods up to 1e-4, of all weights 1e-5. Only of optimisers of
    Adam's kind: others have scales of their own.
    Do: 2e-4 for LoRA, 1e-5 for all weights, 5e-6 for DPO.
    Known from: the LoRA, QLoRA and DPO papers' settings; TRL's defaults.
    """
    problems = list(context.told(("RCP017",), ("training", "learning_rate")))
    yield from problems
    section = context.section("training")
    rate, optimiser = section.get("learning_rate"), str(section.get("optim", "adamw"))
    adapter = bool(context.section("peft") or context.section("model").get("adapter"))
    usual = RATES.get((str(context.document.data.get("task", "sft")), adapter))
    if problems or usual is None or not isinstance(rate, int | float) or isinstance(rate, bool) or "adamw" not in optimiser:
        return
    lowest, highest, right = usual
    if lowest <= rate <= highest:
        return
    what = "an adapter" if adapter else "training of all weights"
    effect = "it will hardly learn" if rate < lowest else "the loss may blow up, or the model forgets what it could"
    yield Found(
        f"learning_rate {rate:g} is {'low' if rate < lowest else 'high'} for {what} (task {context.document.data.get('task', 'sft')}): "
        f"{effect}. Usual is {right:g}",
        context.at("training", "learning_rate"),
        {"learning_rate": rate, "lowest": lowest, "highest": highest, "adapter": adapter},
        Fix(f"Write `learning_rate: {right:g}`", changes=(Change(("training", "learning_rate"), right),)),
    )


@check("TRN07", "warning", "rows longer than the model's context", Stage.ROWS)
def beyond_context(context: "CheckContext") -> Iterator[Found]:
    """Positions beyond those that the model was trained with: rotary ones give garbage without an error, learned ones (GPT-2, OPT) have no
    row there and end in IndexError.

    Rule: the longest sequence after cutting, against max_position_embeddings (not where the config stretches the positions) or the rows
    of the position table.
    Do: max_length of the model's context, or a model with a longer one.
    Known from: transformers' rotary embeddings; nn.Embedding.
    """
    longest, row = _longest(context)
    config, limit, learned = context.model.text_config, None, False
    for name, tensor in context.model.tensors.items():
        if name.endswith(POSITIONS):
            limit, learned = tensor.shape[0] - OFFSET.get(str(config.get("model_type")), 0), True
    if not learned and not _stretched(config):
        limit = next((config[key] for key in ("max_position_embeddings", "n_positions") if isinstance(config.get(key), int)), None)
    if limit is None or longest <= limit:
        return
    effect = "the first such row ends the run with an IndexError" if learned else "beyond it there is garbage in and out, without an error"
    yield Found(
        f"sequences are up to {longest:,} tokens long (row {row}), the model knows {limit:,} positions: {effect}. "
        f"Write max_length: {limit}",
        context.at("training", "max_length"),
        {"longest": longest, "row": row, "positions": limit, "learned": learned},
        Fix(f"Write `max_length: {limit}`", changes=(Change(("training", "max_length"), limit),)),
        "error" if learned else None,
    )


def _longest(context: "CheckContext") -> tuple[int, int]:
    """Tokens of the longest sequence that is trained on, and a row in it."""
    columns, rows = context.proven.prepared.columns, context.proven.prepared.rows
    if "prompt_ids" in columns:
        lengths = columns["prompt_ids"].lengths + [
            max(pair) for pair in zip(columns["chosen_ids"].lengths.tolist(), columns["rejected_ids"].lengths.tolist())
        ]
    else:
        lengths = columns["input_ids"].lengths
    if not len(lengths):
        return 0, -1
    limit = context.setting("max_length")
    longest = int(lengths.max())
    if context.recipe.task == "sft" and context.setting("packing") and context.setting("packing_strategy") == "wrapped":
        longest = max(longest, int(limit or 0))  # positions run on through a wrapped sequence
    return min(longest, int(limit)) if limit else longest, int(rows[lengths.argmax()])


def _stretched(config: dict[str, Any]) -> bool:
    """Whether the config scales its rotary positions (rope_scaling, rope_parameters)."""
    for key in ("rope_scaling", "rope_parameters"):
        scaling = config.get(key)
        if isinstance(scaling, dict):
            kind = scaling.get("rope_type", scaling.get("type"))
            if kind not in (None, "default") or any(isinstance(nested, dict) for nested in scaling.values()):
                return True
    return False


@check("TRN09", "warning", "a loss on what should not be learnt", Stage.ROWS)
def loss_scope(context: "CheckContext") -> Iterator[Found]:
    """Conversations in one list (`messages`) are trained on as a whole, with system and user turns and the template: with long prompts the
    model learns to write prompts. completion_only_loss changes nothing there or on plain text, without a word from TRL.

    Rule: less than a fifth of the turns' tokens are the assistant's (the template's are the same in every row and soon learnt); it is told
    when less than nine tenths of all tokens in the loss are.
    Do: assistant_only_loss: true, or columns for user and assistant.
    Known from: preflight-checks.md A.2; trl sft_trainer.
    """
    if context.recipe.task != "sft":
        return
    shape = context.train.format
    if context.training.get("completion_only_loss") is True and not shape.startswith("prompt-completion"):
        yield Found(
            f"completion_only_loss has no effect on {shape} rows: the loss is on all of their tokens. "
            + ("Write assistant_only_loss: true" if "messages" in shape else "Map the columns to prompt and completion"),
            context.at("training", "completion_only_loss"),
            {"format": shape},
            _only_assistant(context, drop=True) if "messages" in shape else _without_effect(),
        )
        return
    roles = {role: int(tokens.sum()) for role, tokens in context.proven.prepared.roles.items()}
    total = sum(roles.values())
    if not shape.startswith("messages") or context.setting("assistant_only_loss") or not total or "assistant" not in roles:
        return
    share = roles["assistant"] / total
    if share >= 0.9:
        return
    parts = ", ".join(f"{role} {100 * tokens / total:.0f} %" for role, tokens in sorted(roles.items(), key=lambda item: -item[1]) if tokens)
    little = roles["assistant"] < LITTLE * (total - roles.get("template", 0))
    yield Found(
        f"all turns are in the loss: {parts}. "
        + (
            "The model learns mostly to write prompts; write assistant_only_loss: true"
            if little
            else "assistant_only_loss: true leaves the answers"
        ),
        context.at("training", "assistant_only_loss"),
        {"tokens_by_role": roles, "assistant_share": round(share, 4)},
        _only_assistant(context),
        None if little else "info",
    )


def _without_effect() -> Fix:
    return Fix("Remove `completion_only_loss`", changes=(Change(("training", "completion_only_loss"), remove=True),))


def _only_assistant(context: "CheckContext", drop: bool = False) -> Fix | None:
    """The loss on the answers alone, where the template can mark them."""
    if not context.masks_assistant:
        return _without_effect() if drop else None
    changes = [Change(("training", "assistant_only_loss"), True)]
    if drop:
        changes.append(Change(("training", "completion_only_loss"), remove=True))
    return Fix("Write `assistant_only_loss: true`", changes=tuple(changes))
