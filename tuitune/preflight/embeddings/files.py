"""Checks of embeddings and weight files (section C of the catalogue): headers and single rows, never the whole weights."""

from collections.abc import Iterator

from tuitune.preflight.context import Context
from tuitune.preflight.finding import Found, Where
from tuitune.preflight.registry import Stage, check


@check("EMB01", "error", "embedding rows and vocab_size differ", Stage.HEADERS)
def rows_against_config(context: Context) -> Iterator[Found]:
    """The embedding in the weights has another number of rows than config.json says: from_pretrained refuses to load the model.

    Do: copy config.json and the weights again from one and the same revision.
    Known from: transformers 5 (size mismatch, ignore_mismatched_sizes is False).
    """
    vocabulary = context.model.text_config.get("vocab_size")
    for tensor in (context.model.input_embedding, context.model.output_embedding):
        if tensor is not None and isinstance(vocabulary, int) and tensor.shape[0] != vocabulary:
            yield Found(
                f"{tensor.name} has {tensor.shape[0]} rows, config.json says vocab_size {vocabulary}: the model cannot be loaded. "
                "Copy config.json and the weights again, from one revision",
                Where(str(tensor.file), view="alignment"),
                {"tensor": tensor.name, "rows": tensor.shape[0], "vocab_size": vocabulary},
            )
