"""`tuitune merge`, `export` and `push`: what they check and say before anything starts, and what they say at the end.

Imports no torch; the work is in the job's process. A push's dry run needs no process: it reads the folder and asks no network.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.errors import UserError
from tuitune.printing import print_json, say
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.after.ledger_facts import RunFacts
    from tuitune.after.push_plan import PushPlan
    from tuitune.after.source import Source
    from tuitune.runs.directory import RunDirectory

MIB = 1 << 20
CONTEXT = 1 << 30  # bytes that CUDA itself and the products of a short prompt take beside the weights


def merge(args: argparse.Namespace) -> int:
    """`tuitune merge RUN|ADAPTER`: the adapter in 16 bits into its base, and the check that it says the same; 1 when it does not."""
    from tuitune.after.commands import follow
    from tuitune.after.merge_plan import plan_merge, require_room

    source = _source(args)
    plan = plan_merge(source, _folder(args.out), args.dtype, check=not args.no_check)
    say(printable(plan.words()))
    if args.cpu:
        require_room(plan)  # of the GPU the job knows more
    run = start_merge(source, args, Path.cwd())
    result = follow(run, args.json)
    check = result.get("check")
    if args.json:
        print_json({"run": run.name, **result})
    else:
        _print(f"{result.get('path')}: {_size(result.get('bytes'))}, {result.get('dtype')}")
        _print(check["words"] if check else "not checked (--no-check)")
        if check and check.get("four_bit"):
            small = check["four_bit"]
            _print(
                f"the adapter on the quantised base of its training: {small['relative']:.2%}, {small['agree']:.1%} of the tokens the same"
            )
    return 1 if check and not check["passed"] else 0


def start_merge(source: "Source", args: argparse.Namespace, workspace: Path) -> "RunDirectory":
    """The job of `tuitune merge`; `args` has its options."""
    from tuitune.after.merge_plan import plan_merge
    from tuitune.after.start import start_job

    out = _folder(args.out)
    peak = plan_merge(source, out, args.dtype, check=not args.no_check).peak
    wanted = {"source": source.reference, "base": source.base if args.base else None, "out": out and str(out), "dtype": args.dtype}
    wanted |= {"max_shard_size": args.max_shard_size, "check": not args.no_check, **_device(args)}
    if peak is not None:
        wanted["gpu_bytes"] = peak + CONTEXT  # so much of a card is enough, whoever else computes on it
    return start_job("merge", wanted, source, workspace)


def export(args: argparse.Namespace) -> int:
    """`tuitune export RUN|MODEL --to hf|gguf`: the whole model for others, checked, with how to serve it."""
    from tuitune.after.commands import follow

    run = start_export(_source(args), args, Path.cwd())
    result = follow(run, args.json)
    check, problems = result.get("check"), (result.get("file") or {}).get("problems") or []
    if args.json:
        print_json({"run": run.name, **result})
    else:
        _print(f"{result.get('path')}" + (f": {_size(result['bytes'])}" if "bytes" in result else ""))
        for line in [*problems, *([check["words"]] if check else []), *(result.get("snippets") or [])]:
            _print(line)
    return 1 if problems or (check and not check["passed"]) else 0


def start_export(source: "Source", args: argparse.Namespace, workspace: Path) -> "RunDirectory":
    """The job of `tuitune export`; `args` has its options. UserError when a GGUF file is wanted and its converter is not there."""
    from tuitune.after.gguf_file import find_converter
    from tuitune.after.start import start_job

    if args.to == "gguf" or args.snippets:
        source.must_write("no GGUF file and no server for it; `tuitune merge` makes the folder that transformers loads")
    if args.to == "gguf":
        find_converter(args.converter)
    out = _folder(args.out) or default_export(source, args.quant)
    wanted = {"source": source.reference, "base": source.base if args.base else None, "to": args.to, "out": str(out), "quant": args.quant}
    converter = args.converter and str(Path(args.converter).expanduser().resolve())
    wanted |= {"converter": converter, "snippets": args.snippets, "check": not args.no_check, **_device(args)}
    return start_job("export", wanted, source, workspace)


def default_export(source: "Source", quant: str) -> Path:
    """Where a GGUF file goes: `export/` in the run's directory, else in the folder it is asked from."""
    place = source.run.path if source.run is not None else Path.cwd()
    return place / "export" / f"{source.name}-{quant}.gguf"


def push(args: argparse.Namespace) -> int:
    """`tuitune push RUN|DIR REPO_ID`: adapter or merged model with a model card to the Hub, private unless told otherwise."""
    from tuitune.after.commands import follow

    folder, source, facts = subject_of(args.source, merged=args.merged)
    plan = push_plan(folder, facts, args)
    if args.dry_run:
        if args.json:
            print_json({"dry_run": True, **plan.document(), "card": card_of(plan)})
        else:
            _print(shown(plan))
        return 0
    run = start_push(folder, source, args, Path.cwd())
    if not args.json:
        _print(shown(plan))
    result = follow(run, args.json)
    if args.json:
        print_json({"run": run.name, **result})
    else:
        sent, same = result.get("sent") or [], result.get("unchanged") or []
        _print(f"{result.get('url')}: {len(sent)} files sent, {len(same)} were there already")
    return 0


def subject_of(text: str, *, merged: bool, workspace: Path | None = None) -> tuple[Path, "Source", "RunFacts | None"]:
    """(folder, source, the run's records or None) of what shall be published. UserError when it is not on this box or not merged yet."""
    from tuitune.after.ledger_facts import read_facts
    from tuitune.after.merge_plan import failed_check, why_stale
    from tuitune.after.source import find_source
    from tuitune.runs.manifest import read_manifest

    source = find_source(text, workspace or Path.cwd())
    facts = read_facts(source.run) if source.run is not None and read_manifest(source.run).kind == "train" else None
    folder = source.adapter or Path(source.base)
    if merged and source.adapter is not None:
        folder = (source.run.path / "merged") if source.run is not None else source.adapter.with_name(f"{source.adapter.name}-merged")
        if not folder.is_dir():
            raise UserError(f"{source.words} is not merged yet: tuitune merge {printable(text)}")
        if why := why_stale(folder, source, same_base=False) or failed_check(folder):
            raise UserError(f"{why}; merge anew: tuitune merge {printable(text)}")
    if not folder.is_dir():
        raise UserError(f"{source.words} is a model of the Hub already; name a run or a folder of this box")
    return folder, source, facts


def push_plan(folder: Path, facts: "RunFacts | None", args: argparse.Namespace) -> "PushPlan":
    """What `tuitune push` with these options would send."""
    from tuitune.after.push_plan import plan_push

    return plan_push(folder, args.repo, public=args.public, base=args.base, facts=facts)


def start_push(folder: Path, source: "Source", args: argparse.Namespace, workspace: Path) -> "RunDirectory":
    """The job of `tuitune push`. No token in it: the job's process finds its own."""
    from tuitune.after.start import start_job
    from tuitune.runs.manifest import read_manifest

    run = source.run if source.run is not None and read_manifest(source.run).kind == "train" else None
    wanted = {"folder": str(folder), "run": run and str(run.path), "repo": args.repo, "public": args.public, "base": args.base}
    return start_job("push", {**wanted, "message": args.message, "hub": [args.repo]}, source, workspace)


def shown(plan: "PushPlan", *, origins: bool = True) -> str:
    """The plan for people: every file with its size, where it comes from (`origins`), and last what stays here."""
    visible = "private" if plan.private else "PUBLIC"
    lines = [f"{plan.repo} ({visible}): {len(plan.files)} files, {_size(plan.bytes)}"]
    width = max(len(file.name) for file in plan.files)
    for file in plan.files:
        origin = f"  {printable(file.origin)}" if origins else ""
        lines.append(f"  {file.name:<{width}}  {_size(file.size):>10}{origin}")
    if plan.left:
        lines.append(f"  stays here: {printable(', '.join(plan.left), limit=400)}")
    return "\n".join(lines)


def card_of(plan: "PushPlan") -> str:
    """The model card that goes with it."""
    source = next(file.source for file in plan.files if file.name == "README.md")
    assert isinstance(source, bytes)
    return source.decode()


def _source(args: argparse.Namespace) -> "Source":
    from tuitune.after.source import find_source

    source = find_source(args.source, Path.cwd())
    if not args.base:
        return source
    local = Path(args.base).expanduser()
    return source.over(str(local.resolve()) if local.is_dir() else args.base)


def _device(args: argparse.Namespace) -> dict[str, str]:
    return {"gpus": "cpu"} if args.cpu else {}


def _folder(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


def _size(count: Any) -> str:
    if not isinstance(count, int):
        return "?"
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / MIB:.1f} MiB" if count >= MIB else f"{count:,} B"


def _print(text: str) -> None:
    sys.stdout.write(f"{printable(str(text), newlines=True)}\n")
