"""Checks of what the adapter reaches in the model: peft itself has wrapped the architecture, without weights."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuitune.preflight.adapter.configuration import all_linear, lora
from tuitune.preflight.adapter.embeddings import INPUT, OUTPUT, whole_embeddings
from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

LOST = {  # key of LoraConfig → what an entry that matches nothing means
    "modules_to_save": "it is neither trained nor saved",
    "exclude_modules": "nothing is left out by it",
    "rank_pattern": "no layer gets this rank",
    "alpha_pattern": "no layer gets this scaling",
    "layers_to_transform": "the model has no such block",
}


@check("PEFT01", "error", "target_modules that the model does not have", Stage.MODEL)
def targets(context: "CheckContext") -> Iterator[Found]:
    """peft finds no module to put LoRA on, and the run ends before its first step; or only some of the names match, and the others are
    left out without a word.

    Rule: a list matches whole names or their ends after a dot; a string is a regular expression for the whole name, so "q_proj" as a
    string matches nothing. Tried by wrapping the model's class on torch's meta device.
    Do: target_modules: all-linear.
    Known from: peft.tuners.tuners_utils (NoMatchingPeftModuleError).
    """
    section, reach = lora(context), context.coverage
    written = section.get("target_modules")
    where = context.at("peft", "target_modules")
    unmatched = reach.ignored.get("target_modules", [])
    if reach.refusal:
        if set(reach.ignored) & {"layers_to_transform"} and not unmatched:
            return  # PEFT06
        yield Found(
            f"no adapter can be put on the model: {reach.refusal.rstrip('.')}. Write target_modules: all-linear",
            where,
            {"target_modules": written, "peft": reach.refusal, "modules": reach.modules[:20]},
            _all_linear(section),
        )
    elif unmatched:
        others = [one for one in written if one not in unmatched] if isinstance(written, list) else []
        meant = {one: reach.nearest(one) for one in unmatched}
        better = list(dict.fromkeys([*others, *(name for name in meant.values() if name)]))
        hints = ", ".join(f"{printable(one)} (meant {name}?)" if name else printable(one) for one, name in meant.items())
        yield Found(
            f"of target_modules {hints} {'matches' if len(unmatched) == 1 else 'match'} no module of this model: these layers get no "
            "adapter, and peft does not say so. Correct the names, or write all-linear",
            where,
            {"unmatched": unmatched, "meant": meant, "modules": reach.modules[:20]},
            Fix(f"Write `{better}`", changes=(Change(("peft", "target_modules"), better),)),
            "warning",
        )


def _all_linear(section: dict[str, Any]) -> Fix:
    """all-linear goes neither with target_parameters nor with a choice of blocks."""
    gone = [key for key in ("layers_to_transform", "layers_pattern", "target_parameters") if section.get(key) is not None]
    fix = all_linear()
    return Fix(fix.title, fix.automatic, changes=(*fix.changes, *(Change(("peft", key), remove=True) for key in gone)))


@check("PEFT06", "warning", "a name in the adapter's settings that matches nothing", Stage.MODEL)
def ignored(context: "CheckContext") -> Iterator[Found]:
    """A name in modules_to_save, exclude_modules, rank_pattern or alpha_pattern matches no module, and peft leaves it out, mostly without a
    word: the embedding that was to be trained is not. A block in layers_to_transform that the model does not have is an error.

    Do: take the nearest name that the model has.
    Known from: peft.utils.other (_set_trainable), peft.tuners.tuners_utils.
    """
    lora(context)
    reach = context.coverage
    for key, lost in LOST.items():
        for entry in reach.ignored.get(key, []):
            meant = reach.nearest(entry) if key != "layers_to_transform" else None
            if key == "layers_to_transform":
                hint = f"its blocks are 0 to {reach.layers - 1}"
            else:
                hint = f"did you mean {meant}?" if meant else "correct it or take it out"
            yield Found(
                f"peft.{key}: {printable(entry)} matches no module of this model: {lost}; {hint}",
                context.at("peft", key),
                {"key": key, "entry": entry, "meant": meant, "modules": reach.modules[:20]},
                _corrected(context, key, entry, meant),
                "error" if key == "layers_to_transform" else None,
            )


def _corrected(context: "CheckContext", key: str, entry: str, meant: str | None) -> Fix | None:
    """The setting with the nearest name in place of `entry`; without `entry` where none is near."""
    written = lora(context).get(key)
    changed: Any = None
    if isinstance(written, list):
        changed = list(dict.fromkeys(meant if str(one) == entry and meant else one for one in written if meant or str(one) != entry))
    elif isinstance(written, dict):
        changed = {meant if one == entry and meant else one: value for one, value in written.items() if meant or one != entry}
    title = f"Write `{meant}` for `{printable(entry)}`" if meant else f"Take `{printable(entry)}` out of `{key}`"
    sure = meant is not None and key == "modules_to_save"
    if sure and meant in (*INPUT, *OUTPUT) and context.model.tied:
        return whole_embeddings(context, tied=True, instead_of=entry)
    return Fix(title, sure, changes=(Change(("peft", key), changed, remove=not changed),))


@check("PEFT12", "info", "what the adapter trains", Stage.MODEL)
def trainable(context: "CheckContext") -> Iterator[Found]:
    """How many parameters are trained, by kind of module: a number to look at before the GPU is touched. None at all is an error.

    Do: compare it with what you meant to train; peft.r and peft.target_modules decide it.
    Known from: peft.PeftModel.print_trainable_parameters.
    """
    if context.full:
        return
    reach = context.coverage
    if reach.refusal:
        return  # PEFT01
    total = sum(part.parameters for part in reach.parts)
    kinds: Counter[str] = Counter()
    for part in reach.parts:
        kinds[part.name.rpartition(".")[2]] += part.trained
    by_kind = {name: count for name, count in kinds.most_common() if count}
    where = context.at("peft" if context.recipe.peft is not None else "model")
    if not reach.trained:
        yield Found(
            "the adapter has no parameter that is trained: nothing is learnt. Write target_modules: all-linear", where, {}, None, "error"
        )
        return
    shown = ", ".join(f"{name} {count:,}" for name, count in list(by_kind.items())[:8])
    yield Found(
        f"{reach.trained:,} parameters are trained beside {total:,} of the base ({100 * reach.trained / max(total, 1):.2f} %): {shown}",
        where,
        {"trained": reach.trained, "base": total, "by_module": by_kind},
    )
