"""Forms of data that tuitune does not train as they are: streams, token ids, raw strings beside a chat template (DAT22, DAT23, DAT25)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuitune.preflight.context import DocumentContext
from tuitune.preflight.data.common import at
from tuitune.preflight.finding import Change, Fix, Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.raw_rows import RawSplit


@check("DAT22", "error", "a stream of rows", Stage.RECIPE)
def stream(context: DocumentContext) -> Iterator[Found]:
    """A source asks for streaming. The trainer cannot know the length of a stream, and without max_steps it refuses one; tuitune reads
    the rows of a file into memory and always knows how many there are.

    Do: take the key out; max_rows cuts a source that is too large.
    Known from: transformers.Trainer (max_steps has to be specified for a dataset without __len__).
    """
    for problem in context.problems:
        if problem.path[:1] == ("dataset",) and problem.path[-1:] in (("streaming",), ("iterable",)):
            yield context.told_by(problem)


@check("DAT23", "warning", "rows that are token ids already", Stage.DATA)
def pretokenised(context: "CheckContext") -> Iterator[Found]:
    """The data has a column input_ids. tuitune trains on the texts beside it, through the tokenizer of this model; ids alone it does not
    train on: which tokenizer made them cannot be seen from them, and template, end token and loss mask would not be applied.

    Do: name the file with the texts.
    Known from: TRL skips its preparation when a column input_ids is there; without labels all tokens are in the loss.
    """
    kwargs = context.training.get("dataset_kwargs")
    if isinstance(kwargs, dict) and kwargs.get("skip_prepare_dataset"):
        yield Found(
            "training.dataset_kwargs.skip_prepare_dataset hands the rows to the trainer without tokenising them: they are texts, and the "
            "first batch fails. Take it out",
            context.at("training", "dataset_kwargs"),
            {"dataset_kwargs": kwargs},
            Fix("Take dataset_kwargs out", changes=(Change(("training", "dataset_kwargs"), remove=True),)),
            "error",
        )
    for split in context.raw_splits:
        for source in split.sources:
            if "input_ids" not in source.names:
                continue
            alone = source.columns is None
            rest = "holds token ids and no text that tuitune knows" if alone else "also holds token ids, which are not used"
            yield Found(
                f"{printable(source.path)} {rest}: template, end token and loss mask of this recipe would not be applied to them. "
                + ("Name the file with the texts" if alone else "The texts are trained, with this model's tokenizer"),
                at(split, source.rows[0]),
                {"file": source.path, "columns": source.names[:20]},
                severity="error" if alone else "info",
            )


@check("DAT25", "warning", "raw strings for a chat model", Stage.DATA)
def raw_strings_with_a_chat_model(context: "CheckContext") -> Iterator[Found]:
    """The rows are plain strings, and the model has a chat template: prompt and completion are joined without template, turn or separator
    ("...in May?Natalia sold 48/2"), so the model is trained on a form in which nobody will ask it. Texts that hold the template's own
    markers are taken as rendered already.

    Do: map the columns to user and assistant; or take the base model for plain text.
    Known from: trl data formats (only conversational data goes through the template).
    """
    template = context.template_source
    if not template:
        raise NotHere("the model has no chat template")
    markers = [str(token) for token in context.loaded_tokenizer.added_tokens_decoder.values() if str(token) in template]
    split = context.raw("train")
    plain = [(row, text) for row, example in split.fit if (text := "".join(v for v in example.values() if isinstance(v, str)))]
    plain = [(row, text) for row, text in plain if not row.talks and not any(marker in text for marker in markers)]
    if len(plain) <= len(split.fit) / 2:
        return
    names = [name for name in ("text", "prompt", "completion", "chosen", "rejected") if name in split.fit[0][1]]
    yield Found(
        f"the rows are plain strings ({' and '.join(names)}), and the model has a chat template that is not used for them: it is trained "
        "on a form in which nobody will ask it. Map the columns to user and assistant, or take the base model",
        context.at("dataset", "train", 0, "columns"),
        {"columns": names, "example": printable(plain[0][1], limit=160)},
        _as_conversation(split),
    )


def _as_conversation(split: "RawSplit") -> Fix | None:
    """Prompt and completion as user and assistant."""
    changes = []
    for source in split.sources:
        columns = source.columns or {}
        if set(columns) - {"prompt", "completion", "chat_template_kwargs", "tools"} or "completion" not in columns:
            return None
        mapped = {"user": columns["prompt"], "assistant": columns["completion"]}
        rest = {target: column for target, column in columns.items() if target not in ("prompt", "completion")}
        changes.append(Change(("dataset", split.name, source.index, "columns"), {**mapped, **rest}))
    return Fix("Map prompt to user and completion to assistant", changes=tuple(changes))
