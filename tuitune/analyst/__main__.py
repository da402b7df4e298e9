"""`python -m tuitune.analyst`: the warm process. Started by tuitune.analyst.client, which speaks with it over standard input and output."""

import os
import sys
from pathlib import Path
from typing import Any

from tuitune.network import hub_names, settle_network

TASKS = ("sft", "dpo")


def main() -> int:
    """Import everything once, say hello, serve until the end of input."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # looking at rows takes no GPU
    import datasets
    import huggingface_hub
    import msgspec
    import torch

    from tuitune.analyst import chat_template, inspection
    from tuitune.analyst.server import Operation, Progress, Server
    from tuitune.bus.envelope import VERSION, encode
    from tuitune.recipe.recipe import load_recipe
    from tuitune.trainer.methods import method_for

    torch.set_num_threads(1)
    for task in TASKS:  # trl imports its trainers when they are asked for: once here, not in every worker
        method_for(task)
    datasets.disable_progress_bars()

    def inspect(progress: Progress, *, recipe: str, rows: list[int] | None = None, limit: int = inspection.SAMPLE) -> dict[str, Any]:
        loaded = load_recipe(Path(recipe))
        unreachable = settle_network(hub_names(loaded))
        if unreachable:
            huggingface_hub.constants.HF_HUB_OFFLINE = True  # it reads the environment once, when it is imported
        progress(unreachable or "preparing rows")
        found: dict[str, Any] = msgspec.to_builtins(inspection.inspect(loaded, rows, limit), str_keys=True)
        return found

    def template(progress: Progress, *, recipe: str, **wishes: Any) -> dict[str, Any]:
        loaded = load_recipe(Path(recipe))
        other = wishes.get("other")
        unreachable = settle_network([*hub_names(loaded), *([other] if other and not Path(other).exists() and other != "training" else [])])
        if unreachable:
            huggingface_hub.constants.HF_HUB_OFFLINE = True
        progress(unreachable or "reading rows")
        report: dict[str, Any] = msgspec.to_builtins(chat_template.examine(loaded, progress, **wishes))
        return report

    operations = {"inspect": Operation(inspect, limit_s=120.0), "template": Operation(template, limit_s=120.0)}
    server = Server(operations, sys.stdin.fileno(), answers)
    answers.write(encode({"v": VERSION, "ev": "hello", "pid": os.getpid()}))
    answers.flush()
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
