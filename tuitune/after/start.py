"""Start a job on a source. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from tuitune.after.source import Source
from tuitune.hub.launch import launch_job
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest


def start_job(kind: str, args: dict[str, Any], source: Source, workspace: Path) -> RunDirectory:
    """A job about `source`, with the recipe of the run that made it; blocks until its hub answers (some 0.3 s).

    args: what the kind's module takes; besides, `gpus` ("cpu", "auto"), `gpu_bytes` (tuitune.hub.launch.launch_job) and `hub`, names that
    come from the Hub or go there: the source's are added, and without any the Hub is not asked. UserError when it cannot be started.
    """
    names = {*args.get("hub", ()), *source.hub_names}
    text, path = f"task: sft\nmodel:\n  name_or_path: {json.dumps(source.base)}\n", None
    if source.run is not None:
        text = source.run.recipe.read_text(encoding="utf-8")
        written = read_manifest(source.run).recipe_path
        path = Path(written) if written else None
    return launch_job(kind, {**args, "hub": sorted(names)}, name=source.name, recipe_text=text, recipe_path=path, workspace=workspace)
