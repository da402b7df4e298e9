"""`tuitune eval`: from its words to the job's arguments, and its figures on the terminal. Nothing heavy is imported: the work is in the
job's process."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tuitune.after.chat_start import needed_bytes
from tuitune.after.commands import follow
from tuitune.after.metrics import parse_metrics
from tuitune.after.report import between, number, signed
from tuitune.after.source import Source, find_source
from tuitune.after.start import start_job
from tuitune.errors import UserError
from tuitune.printing import print_json
from tuitune.runs.directory import RunDirectory
from tuitune.runs.listing import reference
from tuitune.text import printable

BATCH = 1 << 30  # bytes for the logits of a batch whose losses are read


def evaluate(args: argparse.Namespace) -> int:
    """Start the job, follow it to its end and print its figures. UserError for what cannot be started or fails."""
    workspace = Path.cwd()
    run = start_evaluation(args.source, job_arguments(args, workspace), workspace)
    if args.detach:
        if args.json:
            print_json({"run": run.name, "path": str(run.path)})
        else:
            print(f"{run.name} works in the background. Watch it: tuitune attach {reference(run, workspace)}")  # noqa: T201
        return 0
    result = follow(run, args.json)
    if "figures_file" not in result:
        raise UserError(f"{run.name} was stopped before it had anything to report")
    document = json.loads(Path(result["figures_file"]).read_text(encoding="utf-8"))
    if args.json:
        figures = {key: value for key, value in document.items() if key not in ("schema", "rows")}
        places = {name: place for name in ("report", "figures_file", "copy") if (place := result.get(name))}
        print_json({"run": run.name, **figures, **places})
    else:
        print_document(document, Console(highlight=False, soft_wrap=True))
        print(f"Report: {printable(result['report'])}")  # noqa: T201
    return 0


def start_evaluation(source: str, arguments: dict[str, Any], workspace: Path) -> RunDirectory:
    """The job `eval` of a run or model as a person names it; `arguments` as tuitune.after.evaluate.Arguments has them. UserError when it
    cannot be started."""
    found = find_source(source, workspace)
    found.must_write("no answer to measure here; its accuracy on held-out pairs is in its run (eval_accuracy, with dataset.eval)")
    data = arguments.get("data") or (found.recipe.dataset["eval"] if found.recipe else [])
    hub = [str(one["path"]) for one in data if not Path(str(one["path"])).is_absolute()]
    hub += ["lm-evaluation-harness"] if arguments.get("harness") else []
    room = {} if "gpus" in arguments or (needed := _gpu_bytes(found, arguments.get("four_bit"))) is None else {"gpu_bytes": needed}
    return start_job("eval", {"source": found.reference, "words": found.words, "hub": hub, **room, **arguments}, found, workspace)


def _gpu_bytes(source: Source, four_bit: bool | None) -> int | None:
    """What it needs of a GPU beside a training: the model, and the logits of one batch of losses, which are halved where there is less.
    A full fine-tuning's base is as large and comes after it. None when the files are not here yet."""
    needed = needed_bytes([source], four_bit)
    return None if needed is None else needed + BATCH


def job_arguments(args: argparse.Namespace, workspace: Path) -> dict[str, Any]:
    """The arguments of the job; relative files become absolute. UserError (usage) for words that mean nothing."""
    from tuitune.after import harness

    columns = _columns(args.columns)
    if columns and not args.data:
        raise UserError("--columns belongs to --data; the recipe's own data have theirs", exit_code=2)
    for name in ("rows", "max_new_tokens"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1", exit_code=2)
    if args.harness:
        harness.require()
    wanted = parse_metrics(args.metric, args.answer_regex)
    forgetting = args.forgetting
    if forgetting not in (None, "none", "builtin"):
        forgetting = str(_file(forgetting, workspace))
    made = {
        "data": [_source(text, columns, workspace) for text in args.data] if args.data else None,
        "metrics": list(wanted.names) if wanted else None,
        "pattern": wanted.pattern if wanted else None,
        "harness": _tasks(args.harness, workspace) if args.harness else None,
        "forgetting": forgetting,
        **{name: getattr(args, name) for name in ("against", "rows", "max_new_tokens", "four_bit")},
        "gpus": "cpu" if args.cpu else None,
    }
    return {key: value for key, value in made.items() if value is not None}


def _source(text: str, columns: dict[str, str] | None, workspace: Path) -> dict[str, Any]:
    """A source of rows as in `dataset.eval`: a file, or a data set of the Hub."""
    from tuitune.dataset.sources import data_format

    local = workspace / Path(text).expanduser()
    is_file = local.exists() or data_format(local) is not None or text.startswith((".", "/", "~"))
    source = {"path": str(_file(text, workspace)) if is_file else text}
    return {**source, "columns": columns} if columns else source


def _tasks(text: str, workspace: Path) -> list[str]:
    """Names of the harness's tasks, or YAML files of one's own."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [str(_file(name, workspace)) if name.endswith((".yaml", ".yml")) else name for name in names]


def _file(text: str, workspace: Path) -> Path:
    path = (workspace / Path(text).expanduser()).resolve()
    if not path.is_file():
        raise UserError(f"{printable(text)} is no file here; name the rows or texts to evaluate on", exit_code=2)
    return path


def _columns(text: str | None) -> dict[str, str] | None:
    """`user=question,assistant=answer` → a mapping of targets to columns."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(target.strip() and column.strip() for target, _, column in pairs):
        raise UserError(f"--columns {printable(text)}: write TARGET=COLUMN,…, e.g. user=question,assistant=answer", exit_code=2)
    return {target.strip(): column.strip() for target, _, column in pairs}


def print_document(document: Mapping[str, Any], console: Console) -> None:
    """The tables of the report on a terminal."""
    sides = document["sides"]
    if document["figures"]:
        rows = [_cells(figure, sides) for figure in document["figures"]]
        last = ["difference", "95 % interval", "rows"] if len(sides) == 2 else ["95 % interval", "rows"]
        console.print(_table(["metric", *sides, *last], rows))
    if document["forgetting"]:
        console.print(_table(["general texts", "before", "after", "difference", "95 % interval", "texts"], _skills(document["forgetting"])))
    if document["harness"]:
        results = document["harness"]["results"]
        rows = [[one["task"], one["metric"], one["side"], f"{one['value']:.4f}"] for one in results]
        console.print(_table(["benchmark", "metric", "model", "value"], rows))
    for warning in document["warnings"]:
        console.print(f"warning: {printable(warning)}", markup=False)


def _cells(figure: Mapping[str, Any], sides: Sequence[str]) -> list[str]:
    cells = [figure["title"], *(number(figure["values"][side], figure) for side in sides)]
    if len(sides) == 2:
        return [*cells, signed(figure["difference"], figure), between(figure["interval"], figure), str(figure["rows"])]
    return [*cells, between(figure["intervals"][sides[0]], figure, of_value=True), str(figure["rows"])]


def _skills(forgetting: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for one in forgetting["skills"]:
        interval = " to ".join(f"{end:+.3f}" for end in one["interval"]) if one["interval"] else "too few texts"
        figures = [f"{one['before']:.3f}", f"{one['after']:.3f}", f"{one['difference']:+.3f}"]
        rows.append([one["skill"] + (" (forgotten)" if one["forgotten"] else ""), *figures, interval, str(one["texts"])])
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for position, title in enumerate(head):
        table.add_column(title, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(printable(cell).replace("[", "\\[") for cell in row))
    return table
