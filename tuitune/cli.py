"""The command line: one function a command, heavy imports inside the function, so that `tuitune --help` is instant.

Exit codes: 0 fine, 1 findings or a failed run, 2 wrong usage. Errors are one sentence on stderr; a traceback only with --debug.
With --json one JSON document (streaming commands: one line an event) goes to stdout and nothing else.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from tuitune.after import commands as after
from tuitune.command_line import build_parser
from tuitune.errors import UserError
from tuitune.printing import print_json, say
from tuitune.text import printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale without these letters, a name that is not UTF-8: written as escapes
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    if not words or words[0] not in (*COMMANDS, "-h", "--help", "--version"):
        words.insert(0, "open")  # `tuitune [OPTIONS] [DIR]`; a subcommand's name wins over a folder's
    args = parser.parse_args(words)
    try:
        return COMMANDS[args.command](args)
    except UserError as error:
        if args.debug:
            raise
        print(f"tuitune: {printable(str(error), newlines=True)}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # `tuitune runs | head`: nobody reads any more
        return 0
    except OSError as error:
        if args.debug:
            raise
        name = printable(str(error.filename or "a file"), limit=200)
        print(f"tuitune: {name}: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("tuitune: interrupted", file=sys.stderr)  # noqa: T201
        return 130


def open_workbench(args: argparse.Namespace) -> int:
    """`tuitune [DIR]`: the workbench on a folder, or on a recipe in its folder."""
    target = Path(args.directory)
    if not target.exists():
        raise UserError(f"{args.directory} does not exist; name a folder or a recipe, or run `tuitune demo` for a ready one", exit_code=2)
    from tuitune.workbench.main import run_workbench

    directory, recipe = (target, None) if target.is_dir() else (target.parent, target)
    return run_workbench(
        directory.resolve(), open_path=recipe and recipe.resolve(), mouse=not args.no_mouse, colors=args.colors, slow=args.slow
    )


def demo(args: argparse.Namespace) -> int:
    """`tuitune demo [DIR]`: a ready workspace with a real model and real data; opens it, or trains it headless."""
    from tuitune.demo.workspace import make_demo

    headless = args.headless or not (sys.stdin.isatty() and sys.stdout.isatty())
    recipe = make_demo(Path(args.directory))
    if headless:
        from tuitune.demo.headless import run_headless

        return run_headless(recipe)
    from tuitune.workbench.main import run_workbench

    return run_workbench(recipe.parent, open_path=recipe, mouse=not args.no_mouse, colors=args.colors, slow=args.slow)


def validate(args: argparse.Namespace) -> int:
    """`tuitune validate RECIPE`: schema problems with line, column and fix."""
    from tuitune.recipe import report

    path = Path(args.recipe)
    problems = report.validate_file(path)
    if args.json:
        print_json(report.as_json(problems, path))
    else:
        from rich.console import Console

        report.print_problems(problems, Console(highlight=False), path)
    return 1 if report.count(problems)["errors"] else 0


def check(args: argparse.Namespace) -> int:
    """`tuitune check RECIPE`: what can be known to go wrong, for this box or for a named card."""
    from rich.console import Console

    from tuitune.preflight import registry, report

    console = Console(highlight=False, soft_wrap=True)
    if args.list or args.explain:
        checks = registry.all_checks() if args.list else [registry.find_check(args.explain)]
        if args.json:
            rows = [{"id": one.id, "severity": one.severity, "title": one.title, "explanation": one.explanation} for one in checks]
            print_json({"checks": rows})
        elif args.list:
            report.print_catalogue(checks, console)
        else:
            report.print_explanation(checks[0], console)
        return 0
    if args.recipe is None:
        raise UserError("name a recipe to check, or ask for --list or --explain ID", exit_code=2)
    recipe = Path(args.recipe)
    if args.undo:
        from tuitune.preflight.repair import undo

        undo(recipe)
        print(f"{printable(args.recipe)} is as it was before the last --fix")  # noqa: T201
        return 0
    from tuitune.analyst.client import Analyst
    from tuitune.preflight.cards import parse_card
    from tuitune.preflight.preflight import Report, preflight

    card = parse_card(args.gpu) if args.gpu else None
    analyst = Analyst()
    shown = (lambda finding: None) if args.json else (lambda finding: report.print_finding(finding, console))

    def look() -> Report:
        return preflight(recipe, analyst, card, workspace=Path.cwd(), found=shown, progress=lambda text: say(f"{text} …"))

    try:
        analyst.start()  # its imports take seconds: meanwhile document and headers are read
        found = look()
        if args.fix and (fixed := report.fix(recipe, found)):
            if not args.json:
                report.print_fixed(fixed, console)
            found = look()
    finally:
        analyst.close()
    if args.json:
        print_json(report.document(found))
    else:
        report.print_summary(found, console)
    return 1 if found.count("error") else 0


def doctor(args: argparse.Namespace) -> int:
    """`tuitune doctor`: GPU, driver, libraries, disk and limits of this computer, with a remedy for whatever is wrong."""
    from tuitune.preflight import doctor

    say("looking at this box …")
    diagnosis = doctor.diagnose(Path.cwd())
    if args.json:
        print_json(doctor.document(diagnosis))
    else:
        from rich.console import Console

        doctor.print_diagnosis(diagnosis, Console(highlight=False, soft_wrap=True))
    return 1 if diagnosis.errors else 0


def inspect(args: argparse.Namespace) -> int:
    """`tuitune inspect RECIPE`: rows as the trainer sees them, token by token."""
    from tuitune.analyst import report

    if args.all:
        if args.row or args.find:
            raise UserError("--all gives figures over all rows; --row and --find choose rows to show: use one of them", exit_code=2)
        survey = report.survey_file(Path(args.recipe), say=say)
        if args.json:
            print_json({"survey": report.survey_json(survey)})
        else:
            from rich.console import Console

            report.print_survey(survey, Console(highlight=False, soft_wrap=True))
        return 0
    found = report.inspect_file(Path(args.recipe), rows=args.row, find=args.find, say=say)
    if args.json:
        print_json(report.as_json(found))
    else:
        from rich.console import Console

        report.print_rows(found, Console(highlight=False, soft_wrap=True))
    return 0


def template(args: argparse.Namespace) -> int:
    """`tuitune template RECIPE`: the chat template, its render of the rows, prefix test, diff, generation markers."""
    from tuitune.template import report

    if args.write is not None and not args.mark_generation:
        raise UserError("--write writes what --mark-generation makes; give both", exit_code=2)
    recipe = Path(args.recipe)
    found = report.ask(recipe, rows=args.row, other=args.diff, mark=args.mark_generation, say=say)
    written = None if args.write is None else report.write_marked(found, Path(args.write) if args.write else report.marked_path(recipe))
    if args.json:
        print_json(report.as_json(found))
    else:
        from rich.console import Console

        report.print_report(found, Console(highlight=False, soft_wrap=True), all_rows=args.row is not None, written=written)
    return 1 if found.marking is not None and found.marking.refused is not None else 0


def plan(args: argparse.Namespace) -> int:
    """`tuitune plan RECIPE`: GPU memory by component and phase, whether it fits, what to change."""
    from tuitune import planning
    from tuitune.memory import report
    from tuitune.preflight.cards import parse_card, this_box

    def count(wishes: dict[str, Any]) -> dict[str, Any]:
        from tuitune.analyst.client import Analyst

        say("tuitune has no formula for this family: a model without memory is measured, once; loading the libraries …")
        analyst = Analyst()
        try:
            return analyst.request("memory", wishes, progress=lambda text: say(f"{text} …"))
        finally:
            analyst.close()

    card = parse_card(args.gpu) if args.gpu else this_box()
    document = report.document(planning.read_recipe(Path(args.recipe), card, count))
    if args.json:
        print_json(document)
    else:
        from rich.console import Console

        from tuitune.memory.printing import print_plan

        print_plan(document, Console(highlight=False, soft_wrap=True))
    return 1 if document["fits"] is False else 0


def train(args: argparse.Namespace) -> int:
    """`tuitune train RECIPE`: preflight, hub and trainer, then the run's events until it ends or Ctrl-C detaches."""
    from tuitune.console import interrupts_held, watch
    from tuitune.hub.launch import launch_recipe
    from tuitune.preflight.gate import pass_gate
    from tuitune.runs.listing import reference

    leave = pass_gate(Path(args.recipe), Path.cwd(), force=args.force, as_json=args.json, plain=args.plain, say=say)
    with interrupts_held() as held:  # a Ctrl-C in the moment of starting must not leave a run without a name
        run = launch_recipe(Path(args.recipe).resolve(), Path.cwd(), checked=leave.checked, overridden=leave.overridden)
    if args.detach:
        if args.json:
            print_json({"run": run.name, "path": str(run.path)})
        else:
            print(f"{run.name} trains in the background. Watch it: tuitune attach {reference(run, Path.cwd())}")  # noqa: T201
        return 0
    on_interrupt: Literal["stop", "detach"] = "stop" if args.stop_on_interrupt else "detach"
    return watch(run, as_json=args.json, plain=args.plain, on_interrupt=on_interrupt, interrupted=bool(held))


def resume(args: argparse.Namespace) -> int:
    """`tuitune resume RUN`: a run that failed, was stopped or suspended, or lost its hub goes on; then its events like `train`."""
    from tuitune.console import interrupts_held, watch
    from tuitune.hub.launch import resume_run
    from tuitune.runs.listing import find_run, reference

    started = time.time()
    with interrupts_held() as held:
        resumed = resume_run(find_run(Path(args.runs), args.run), args.start)
    run = resumed.run
    if args.detach and args.json:
        facts = {"attempt": resumed.attempt, "resume_from": resumed.resume_from, "adopted": resumed.adopted}
        print_json({"run": run.name, "path": str(run.path), **facts, "passed_over": resumed.passed_over})
    elif not args.json:
        print(printable(resumed.words))  # noqa: T201
    if args.detach:
        if not args.json:
            print(f"Watch it: tuitune attach {reference(run, Path.cwd())}")  # noqa: T201
        return 0
    on_interrupt: Literal["stop", "detach"] = "stop" if args.stop_on_interrupt else "detach"
    return watch(run, as_json=args.json, plain=args.plain, on_interrupt=on_interrupt, interrupted=bool(held), since=started)


def attach(args: argparse.Namespace) -> int:
    """`tuitune attach RUN`: the whole history of a run, then what it does from now on."""
    from tuitune.console import watch
    from tuitune.runs.listing import find_run

    return watch(find_run(Path(args.runs), args.run), as_json=args.json, plain=args.plain, on_interrupt="detach")


def runs(args: argparse.Namespace) -> int:
    """`tuitune runs [RUN]`: the runs of this folder, newest first; of one also where its time goes."""
    from tuitune.console import print_runs, print_why_slow
    from tuitune.runs.listing import find_run, list_runs, summarize
    from tuitune.runs.slow.report import document, read_why_slow

    if args.run is None:
        found = list_runs(Path(args.runs))
        if args.json:
            print_json({"runs": [summary.as_dict() for summary in found]})
        else:
            print_runs(found, Path(args.runs))
        return 0
    run = find_run(Path(args.runs), args.run)
    summary, why = summarize(run), read_why_slow(run)
    found = [summary] if summary else []
    if args.json:
        print_json({"runs": [summary.as_dict() for summary in found], "why_slow": document(why)})
    else:
        print_runs(found, Path(args.runs))
        print_why_slow(why, run, living=bool(summary and summary.alive))
    return 0


def send(args: argparse.Namespace) -> int:
    """`tuitune send RUN OP [KEY=VALUE …]`: a command to a living run, e.g. `tuitune send gsm8k stop save=false`."""
    from tuitune.bus.client import HubClient
    from tuitune.bus.words import arguments
    from tuitune.runs.listing import find_run

    given = arguments(args.op, args.args)
    run = find_run(Path(args.runs), args.run)
    reply = HubClient(run.path).send(args.op, given)
    if args.json:
        print_json(reply)
    elif reply.get("error"):
        raise UserError(f"{run.name}: {args.op} {reply.get('s', 'failed')}: {reply['error']}")
    else:
        print(printable(f"{run.name}: {args.op} {reply['s']}" + (f": {reply['note']}" if reply.get("note") else "")))  # noqa: T201
    return 0 if reply.get("s") in ("queued", "applied") else 1


def compare(args: argparse.Namespace) -> int:
    """`tuitune compare RUN RUN …`: how far runs got, and in which values they differ."""
    from tuitune.console import print_comparison
    from tuitune.runs import compare as comparing
    from tuitune.runs.listing import find_run

    found = comparing.compare([find_run(Path(args.runs), name) for name in args.run])
    if args.json:
        print_json(comparing.document(found))
    else:
        print_comparison(found)
    return 0


def slurm(args: argparse.Namespace) -> int:
    """`tuitune slurm RECIPE`: the batch script that runs a recipe on a SLURM cluster, for `sbatch`."""
    from tuitune.recipe.recipe import load_recipe
    from tuitune.runs.slurm import script

    text = script(load_recipe(Path(args.recipe)), Path.cwd())
    if args.json:
        print_json({"script": text})
    else:
        print(text, end="")  # noqa: T201
    return 0


def sweep(args: argparse.Namespace) -> int:
    """`tuitune sweep RECIPE --set KEY=V1,V2`: a run for every combination of values, and the table with the best."""
    from tuitune.after.sweep_command import sweep as command

    return command(args)


def merge(args: argparse.Namespace) -> int:
    """`tuitune merge RUN|ADAPTER`: an adapter into its base, in 16 bits, and the check that the result says the same."""
    from tuitune.after.publish_commands import merge as command

    return command(args)


def export(args: argparse.Namespace) -> int:
    """`tuitune export RUN|MODEL --to hf|gguf`: a result for others, checked, with how to serve it."""
    from tuitune.after.publish_commands import export as command

    return command(args)


def push(args: argparse.Namespace) -> int:
    """`tuitune push RUN|DIR REPO_ID`: adapter or merged model with a model card to the Hugging Face Hub."""
    from tuitune.after.publish_commands import push as command

    return command(args)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "open": open_workbench,
    "demo": demo,
    "validate": validate,
    "check": check,
    "inspect": inspect,
    "template": template,
    "plan": plan,
    "train": train,
    "resume": resume,
    "attach": attach,
    "runs": runs,
    "send": send,
    "compare": compare,
    "slurm": slurm,
    "eval": after.evaluate,
    "chat": after.chat,
    "sweep": sweep,
    "merge": merge,
    "export": export,
    "push": push,
    "doctor": doctor,
}


if __name__ == "__main__":
    sys.exit(main())
