"""Start a chat: which models, in how many bits, and whether they fit beside what trains. Imports no torch."""

from pathlib import Path
from typing import Any

from tuitune.after.source import WEIGHTS, Source, base_of, find_source
from tuitune.after.start import start_job
from tuitune.errors import NotHere, UserError
from tuitune.preflight.model_files import ModelFiles, locate_model
from tuitune.runs.directory import RunDirectory

NF4 = 0.5159  # bytes a weight, double quantised (training-facts.md 3.2)
BESIDE = 1536 << 20  # bytes for the CUDA context, the cache of keys and values, and what a forward pass needs
EMBEDDINGS = ("embed", "wte", "lm_head", "wpe", "output.weight")


def start_chat(
    text: str,
    workspace: Path,
    *,
    against: str | None = None,
    system: str = "",
    four_bit: bool | None = None,
    cpu: bool = False,
    idle_minutes: float | None = None,
) -> RunDirectory:
    """A chat with the model that `text` names, beside another one (`against`: "base", or a name). four_bit None: each as it was trained.

    UserError when one of them is none or the hub does not start; the models are loaded when its journal says so.
    """
    source = find_source(text, workspace)
    sides: list[dict[str, Any]] = [{"source": source.reference, "adapter": True}]
    source.must_write("nothing to chat with")
    sources = [source]
    if against is not None:
        side, other = _other(source, against, workspace)
        if other is not None:
            other.must_write("nothing to chat with")
        sides.append(side)
        sources += [other] if other is not None else []
    args: dict[str, Any] = {"sides": sides, "system": system, "four_bit": four_bit}
    if idle_minutes is not None:
        args["idle_minutes"] = idle_minutes
    if cpu:
        args["gpus"] = "cpu"
    elif (needed := needed_bytes(sources, four_bit)) is not None:
        args["gpu_bytes"] = needed
    args["hub"] = [name for one in sources for name in one.hub_names]
    return start_job("chat", args, source, workspace)


def _other(source: Source, against: str, workspace: Path) -> tuple[dict[str, Any], Source | None]:
    """The second side, and its source when it is a model of its own: the base of an adapter is the same one without it."""
    if against == "base" and source.kind == "adapter":
        return {"source": source.reference, "adapter": False}, None
    other = base_of(source) if against == "base" else find_source(against, workspace)
    if other.reference == source.reference:
        raise UserError(f"{source.words} would be beside itself: name another model, or `base`", exit_code=2)
    if _model(other) == _model(source) and source.kind == "adapter" and other.kind == "model":
        return {"source": source.reference, "adapter": False}, None
    return {"source": other.reference, "adapter": True}, other


def _model(source: Source) -> tuple[str, str]:
    """What is loaded as its base; a folder has no revisions."""
    return source.base, "" if Path(source.base).is_absolute() else source.revision or "main"


def needed_bytes(sources: list[Source], four_bit: bool | None) -> int | None:
    """What these models take of a GPU's memory, some context included, by their files' headers; None when the files are not here yet."""
    found = 0
    for source in sources:
        try:
            folder = locate_model({"name_or_path": source.base, "revision": source.revision})
            tensors = ModelFiles(folder).tensors if folder is not None else {}
        except (UserError, NotHere):
            return None
        if not tensors:
            return None
        for name, tensor in tensors.items():
            count = 1
            for size in tensor.shape:
                count *= size
            small = len(tensor.shape) == 2 and not any(part in name for part in EMBEDDINGS)
            packed = small and (source.quantized if four_bit is None else four_bit)
            found += int(count * (_packed(source) if packed else 2))
        if source.adapter is not None:
            found += 2 * (source.adapter / WEIGHTS).stat().st_size  # kept in 32 bits, whatever the file has
    return found + BESIDE


def _packed(source: Source) -> float:
    """Bytes a quantised weight takes: as the recipe quantised it, else in 4 bits."""
    written = (source.recipe.quantization if source.recipe else None) or {}
    return 1 if written.get("load_in_8bit") else NF4
