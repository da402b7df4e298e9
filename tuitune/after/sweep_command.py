"""`tuitune sweep`: what it checks before anything starts, and the table."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tuitune.after.sweep_grid import grid, refuse_invalid, words
from tuitune.after.sweep_table import goal_of, median_rule, page, read_table
from tuitune.errors import UserError
from tuitune.hub.launch import launch_job
from tuitune.printing import print_json, say
from tuitune.recipe.recipe import load_recipe
from tuitune.recipe.schema import load_schema
from tuitune.runs.directory import RunDirectory, runs_folder
from tuitune.runs.listing import find_run
from tuitune.runs.manifest import read_manifest
from tuitune.text import escaped_json


def sweep(args: argparse.Namespace) -> int:
    """`tuitune sweep RECIPE --set KEY=V1,V2`: a run for every combination, the table with the best; `--table SWEEP` shows it again."""
    from tuitune.after.commands import follow
    from tuitune.preflight.gate import pass_gate

    if args.table:
        _print(show(table_of(args), as_json=args.json))
        return 0
    if not args.set:
        raise UserError("say what is to vary: --set training.learning_rate=1e-4,2e-4; or --table for a sweep that is there", exit_code=2)
    points = grid(args.set)
    leave = pass_gate(Path(args.target), Path.cwd(), force=args.force, as_json=args.json, plain=False, say=say)
    run = start_sweep(args, points, leave.checked, list(leave.overridden))
    if args.detach:
        if args.json:
            print_json({"run": run.name, "path": str(run.path)})
        else:
            _print(f"{run.name} goes on in the background. Watch it: tuitune attach {run.name}")
        return 0
    table = follow(run, args.json) or read_table(run)
    _print(show(table, as_json=args.json))
    return 0 if table.get("best") is not None else 1


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def table_of(args: argparse.Namespace) -> dict[str, Any]:
    """The table of the sweep that is named."""
    return read_table(sweep_run(args.target))


def sweep_run(name: str) -> RunDirectory:
    """The run directory of a sweep. UserError when it is another kind of run."""
    run = find_run(runs_folder(Path.cwd()), name)
    kind = read_manifest(run).kind
    if kind != "sweep":
        raise UserError(f"{run.name} is no sweep (it is a {kind} run); name a recipe to start one, or a sweep for its table", exit_code=2)
    return run


def start_sweep(args: argparse.Namespace, points: list[dict[str, Any]], text: str, overridden: list[str]) -> RunDirectory:
    """Check every point of the grid and start the job. `text`: the recipe as preflight saw it. UserError for what no run would survive."""
    path = Path(args.target).resolve()
    schema = load_schema()
    recipe = load_recipe(path, schema=schema)
    refuse_invalid(text, points, path, schema)
    evaluates = recipe.training.get("eval_strategy", "no") != "no"
    metric = args.metric or ("eval_loss" if evaluates else "loss")
    if metric.startswith("eval_") and not evaluates:
        raise UserError(f"{metric} is never measured: set eval_strategy and dataset.eval in the recipe, or another --metric", exit_code=2)
    if args.parallel is not None and args.parallel < 1:
        raise UserError("--parallel takes a number from 1 on", exit_code=2)
    median_rule(args.stop_rule)
    runs = str(recipe.output.get("runs") or "runs")
    given = {
        "recipe": str(path),
        "name": recipe.name,
        "runs": runs,
        "points": points,
        "parallel": args.parallel,
        "metric": metric,
        "goal": goal_of(metric, args.goal),
        "rule": args.stop_rule,
        "overridden": overridden,
    }
    return launch_job("sweep", given, name=recipe.name, recipe_text=text, recipe_path=path, workspace=Path.cwd(), runs=runs)


def show(table: dict[str, Any], *, as_json: bool) -> str:
    """What is printed at the end."""
    if as_json:
        return escaped_json(json.dumps(table, ensure_ascii=False))
    best = next((row for row in table["trials"] if row["number"] == table["best"]), None)
    line = (
        f"\nThe best: {best['run']} with {words(best['values'])} ({table['metric']} {best['value']:.5g})\n"
        if best
        else "\nNo run has a value.\n"
    )
    return page(table) + line
