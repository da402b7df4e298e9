"""What changed in a recipe since its last run. Reads the disk: call it in a thread."""

from difflib import unified_diff
from pathlib import Path

from textual.content import Content

from tuitune.runs.listing import RunSummary, list_runs
from tuitune.text import printable


def last_run(recipe: Path) -> RunSummary | None:
    """The newest run of this recipe in the runs folder beside it or above it."""
    for folder in (recipe.parent, recipe.parent.parent):
        found = [run for run in list_runs(folder / "runs") if run.recipe_path == str(recipe)]
        if found:
            return found[0]
    return None


def difference(recipe: Path, text: str) -> Content:
    """The lines that differ from what the last run was started with, or a sentence that says why there are none."""
    run = last_run(recipe)
    if run is None:
        return Content(f"{printable(recipe.name)} has not been trained in this folder yet.")
    try:
        trained = (run.path / "recipe.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Content(f"The recipe of {printable(run.id)} cannot be read ({error}).")
    lines = list(unified_diff(trained.splitlines(), text.splitlines(), lineterm="", n=0))[2:]
    if not lines:
        return Content(f"Nothing changed since {printable(run.id)}.")
    styles = {"+": "$success", "-": "$error", "@": "$text-muted"}
    shown = [Content.styled(printable(line), styles.get(line[:1], "")) for line in lines]
    return Content("\n").join([Content.styled(f"since {printable(run.id)}", "bold"), *shown])
