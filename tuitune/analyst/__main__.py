"""`python -m tuitune.analyst`: the warm process. Started by tuitune.analyst.client, which speaks with it over standard input and output."""

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuitune.network import hub_names, settle_network

TASKS = ("sft", "dpo")


def main() -> int:
    """Import everything once, say hello, serve until the end of input."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # looking at rows takes no GPU, whichever the user chose; and CUDA does not survive a fork
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # a trainer built to look at rows is no training, and its thread would be there at forks
    import datasets
    import huggingface_hub
    import msgspec
    import torch

    from tuitune.analyst import alignment, chat_template, check, find, inspection, proven_set, survey
    from tuitune.analyst.meta_memory import run as meta_memory
    from tuitune.analyst.practice import practise
    from tuitune.analyst.render_watch import RenderWatch
    from tuitune.analyst.server import Operation, Progress, Server, Told
    from tuitune.analyst.wrapped_renders import watch_renders
    from tuitune.bus.envelope import VERSION, encode
    from tuitune.planning import settled
    from tuitune.recipe.recipe import Recipe, load_recipe
    from tuitune.trainer.methods import method_for

    torch.set_num_threads(1)
    for task in TASKS:  # trl imports its trainers when they are asked for: once here, not in every worker
        method_for(task)
    practise()
    datasets.disable_progress_bars()

    def load(recipe: str, progress: Progress, watch: RenderWatch, more: Sequence[str] = ()) -> Recipe:
        watch_renders(watch)
        loaded = load_recipe(Path(recipe))
        unreachable = settle_network([*hub_names(loaded), *more])
        if unreachable:
            huggingface_hub.constants.HF_HUB_OFFLINE = True  # it reads the environment once, when it is imported
            progress(unreachable)
        return settled(loaded, None)[0]  # which rows an update learns from does not depend on the card

    def inspect(
        progress: Progress, *, recipe: str, watch: RenderWatch, rows: list[int] | None = None, limit: int = inspection.SAMPLE
    ) -> dict[str, Any]:
        loaded = load(recipe, progress, watch)
        progress("preparing rows")
        found: dict[str, Any] = msgspec.to_builtins(inspection.inspect(loaded, rows, limit), str_keys=True)
        return found

    def whole(progress: Progress, *, recipe: str, watch: RenderWatch, most: int = proven_set.MOST) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(survey.survey(load(recipe, progress, watch), watch, progress, most))
        return found

    def look_for(progress: Progress, *, recipe: str, what: str, watch: RenderWatch, most: int = proven_set.MOST) -> dict[str, Any]:
        return find.find(load(recipe, progress, watch), what, watch, progress, most)

    def template(progress: Progress, *, recipe: str, watch: RenderWatch, other: str | None = None, **wishes: Any) -> dict[str, Any]:
        loaded = load(recipe, progress, watch, chat_template.hub_names_of(other))
        found: dict[str, Any] = msgspec.to_builtins(chat_template.examine(loaded, progress, other=other, **wishes))
        return found

    def preflight(progress: Told, *, recipe: str, watch: RenderWatch, **wishes: Any) -> dict[str, Any]:
        return check.check(load(recipe, progress, watch), watch, progress, **wishes)

    def align(progress: Told, *, recipe: str, watch: RenderWatch) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(alignment.align(load(recipe, progress, watch), watch, progress))
        return found

    def memory(progress: Told, *, folder: str, ways: list[Any]) -> dict[str, Any]:
        return meta_memory.count(progress, folder=folder, ways=ways)

    operations = {
        "inspect": Operation(inspect, limit_s=120.0, renders=True),
        "survey": Operation(whole, limit_s=900.0, renders=True),
        "find": Operation(look_for, limit_s=900.0, renders=True),
        "alignment": Operation(align, limit_s=900.0, renders=True),
        "check": Operation(preflight, limit_s=900.0, renders=True),
        "memory": Operation(memory, limit_s=900.0),
        "template": Operation(template, limit_s=120.0, renders=True),
    }
    gc.collect()
    gc.freeze()  # its workers are forked: what is imported is never collected, and its pages stay shared
    server = Server(operations, sys.stdin.fileno(), answers)
    answers.write(encode({"v": VERSION, "ev": "hello", "pid": os.getpid()}))
    answers.flush()
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
