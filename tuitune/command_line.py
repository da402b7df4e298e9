"""The words of the command line: every command with its options, built without importing anything that a command needs."""

import argparse
from typing import Any

from tuitune import __version__


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, built without importing anything that a command needs."""
    parser = argparse.ArgumentParser(
        prog="tuitune",
        description="A workbench in the terminal for fine-tuning language models. Without a command: open the workbench on DIR.",
        usage="tuitune [DIR] | tuitune COMMAND …",
    )
    parser.add_argument("--version", action="version", version=f"tuitune {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, **options: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, **options)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    def terminal_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
        sub.add_argument("--colors", choices=["16", "256", "truecolor"], help="colours to use instead of what the terminal says")
        sub.add_argument(
            "--slow", action="store_true", help="for a slow line: live figures every other second (it is noticed when it blocks)"
        )

    sub = command("open", "open the workbench on a folder (the word may be left out)")
    sub.add_argument("directory", nargs="?", default=".", metavar="DIR")
    terminal_options(sub)
    sub = command("demo", "a ready workspace: real instruct model, small real data, recipe; without a terminal it trains headless")
    sub.add_argument("directory", nargs="?", default="tuitune-demo", metavar="DIR")
    sub.add_argument("--headless", action="store_true", help="train now and print the result instead of opening the workbench")
    terminal_options(sub)
    sub = command("validate", "schema problems of a recipe with line, column and fix")
    sub.add_argument("recipe", metavar="RECIPE")
    _json_option(sub)
    sub = command("check", "what can be known to go wrong before a GPU is touched, with repairs")
    sub.add_argument("recipe", nargs="?", metavar="RECIPE")
    sub.add_argument("--fix", action="store_true", help="apply every fix that needs no question, then check again")
    sub.add_argument("--undo", action="store_true", help="take the last --fix of this recipe back")
    sub.add_argument("--gpu", metavar="CARD", help="for this card instead of this box: NAME,24GiB,cc8.9 (parts in any order)")
    sub.add_argument("--list", action="store_true", help="all checks")
    sub.add_argument("--explain", metavar="ID", help="what a check looks at, why, and what to do")
    _json_option(sub)
    sub = command("inspect", "rows of the training data as the trainer sees them: tokens, roles, loss mask, packing")
    sub.add_argument("recipe", metavar="RECIPE")
    sub.add_argument("--row", action="append", type=int, metavar="N", help="this row (from 0; several times for several rows)")
    sub.add_argument(
        "--find", metavar="WHAT", help="a text, /a pattern/, #token id, or a fault: truncated, dropped, masked, duplicate, overlap, unknown"
    )
    sub.add_argument("--all", action="store_true", help="figures over all rows: lengths, what is cut, dropped and twice there, packing")
    _json_option(sub)
    sub = command("template", "the chat template of a recipe: source, render of its rows, prefix test, diff, generation markers")
    sub.add_argument("recipe", metavar="RECIPE")
    sub.add_argument("--row", action="append", type=int, metavar="N", help="this row (from 0; several times for several rows)")
    sub.add_argument("--diff", metavar="OTHER", help="against a Jinja or GGUF file, a model's folder or Hub id, or `training` (TRL's own)")
    sub.add_argument("--mark-generation", action="store_true", help="put {%% generation %%} round what the assistant writes, with a proof")
    sub.add_argument("--write", nargs="?", const="", metavar="FILE", help="write that template (default: beside the recipe)")
    _json_option(sub)
    sub = command("plan", "GPU memory that a recipe needs: by component, whether it fits, what to change")
    sub.add_argument("recipe", metavar="RECIPE")
    sub.add_argument("--gpu", metavar="CARD", help="for this card instead of this box: NAME,24GiB,cc8.9 (parts in any order)")
    _json_option(sub)
    sub = command("train", "train a recipe; Ctrl-C detaches, the run goes on")
    sub.add_argument("recipe", metavar="RECIPE")
    sub.add_argument("--detach", action="store_true", help="return as soon as the run has started")
    sub.add_argument("--force", action="store_true", help="start in spite of what preflight finds; the run keeps a note of it")
    sub.add_argument("--stop-on-interrupt", action="store_true", help="Ctrl-C saves and stops the run instead of detaching")
    _stream_options(sub)
    sub = command("resume", "let a run go on that failed, was stopped or suspended, or whose hub was killed")
    sub.add_argument("run", metavar="RUN")
    from_help = "from this checkpoint, not the newest whole one; later ones are set aside"
    sub.add_argument("--from", dest="start", metavar="CHECKPOINT", help=from_help)
    sub.add_argument("--detach", action="store_true", help="return as soon as it goes on")
    sub.add_argument("--stop-on-interrupt", action="store_true", help="Ctrl-C saves and stops the run instead of detaching")
    _runs_option(sub)
    _stream_options(sub)
    sub = command("slurm", "the batch script that runs a recipe on a SLURM cluster: tuitune slurm RECIPE > job.sh; sbatch job.sh")
    sub.add_argument("recipe", metavar="RECIPE")
    _json_option(sub)
    sub = command("attach", "follow a run from its beginning")
    sub.add_argument("run", metavar="RUN")
    _runs_option(sub)
    _stream_options(sub)
    sub = command("runs", "the runs of this folder; of one: why it is slow")
    sub.add_argument("run", nargs="?", metavar="RUN", help="where its time goes, what that costs, and what to change")
    _runs_option(sub)
    _json_option(sub)
    sub = command("send", "send a command to a living run: stop, save, evaluate, pause, resume, stacks, kill …")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("op", metavar="OP")
    sub.add_argument("args", nargs="*", metavar="KEY=VALUE")
    _runs_option(sub)
    _json_option(sub)
    sub = command("compare", "runs beside each other: how far they got, and in which values they differ; --json has the curves")
    sub.add_argument("run", nargs="+", metavar="RUN")
    _runs_option(sub)
    _json_option(sub)
    _eval_options(command("eval", "what a trained model makes of rows it has not learnt from, beside its base, with a report"))
    _chat_options(command("chat", "talk with a run's model or any other, two side by side; piped input: each line a question of its own"))
    _sweep_options(command("sweep", "runs of one recipe with different values, on free GPUs; the table with the best"))
    _merge_options(command("merge", "an adapter into its base, in 16 bits, and the check that the result says the same"))
    _export_options(command("export", "a result for others: a model's folder or a GGUF file, checked, with how to serve it"))
    _push_options(command("push", "adapter or merged model with a model card to the Hugging Face Hub, private unless told otherwise"))
    sub = command("doctor", "this computer: GPU, driver, libraries, disk, limits, with the remedy for each fault")
    _json_option(sub)
    return parser


def _eval_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", metavar="RUN|MODEL", help="a run, a checkpoint's, adapter's or model's folder, or a Hub id")
    sub.add_argument(
        "--data", action="append", metavar="FILE", help="rows instead of the recipe's dataset.eval (several times for several)"
    )
    sub.add_argument("--columns", metavar="TARGET=COLUMN,…", help="of --data, e.g. user=question,assistant=answer (or choices=…,label=…)")
    sub.add_argument("--metric", metavar="LIST", help="nll,exact,regex=PATTERN,choice (default: nll, and choice where rows have choices)")
    sub.add_argument("--answer-regex", metavar="PATTERN", help="short for regex=PATTERN: compare what it finds, e.g. '#### (.*)'")
    sub.add_argument(
        "--against", choices=["base", "none"], help="the model before its training beside it (default: base, where there is one)"
    )
    sub.add_argument("--rows", type=int, metavar="N", help="at most so many rows")
    sub.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="length of an answer (default: 256)")
    sub.add_argument(
        "--forgetting", metavar="builtin|FILE", help="general texts read before and after (default: builtin; none: not at all)"
    )
    sub.add_argument(
        "--harness", metavar="TASKS", help="public benchmarks, comma separated, through lm-evaluation-harness (pip install lm_eval)"
    )
    _loading_options(sub)
    sub.add_argument("--detach", action="store_true", help="return as soon as it has started")
    _json_option(sub)


def _chat_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="RUN|MODEL", help="a run, a folder with a checkpoint, an adapter or a model, or a Hub id")
    sub.add_argument("--against", metavar="OTHER", help="a second model beside it: base (what it was trained from), or as above")
    sub.add_argument("--system", default="", metavar="TEXT", help="the system prompt")
    for name, kind, text in (
        ("temperature", float, "0: the likeliest token each time (default: 0.7)"),
        ("top-p", float, "draw from the likeliest tokens that together have this probability (default: 0.95)"),
        ("top-k", int, "draw from so many likeliest tokens; 0: all (default: 50)"),
        ("max-new-tokens", int, "of one answer (default: 512)"),
        ("repetition-penalty", float, "above 1: what was said becomes less likely (default: 1)"),
        ("seed", int, "the same seed draws the same answer (default: another one each time)"),
    ):
        sub.add_argument(f"--{name}", type=kind, metavar="N", help=text)
    _loading_options(sub)
    sub.add_argument("--idle", type=float, metavar="MINUTES", help="end after so long without a question (default: 30)")
    sub.add_argument("--whole", action="store_true", help="all of stdin is one question")
    _json_option(sub)


def _loading_options(sub: argparse.ArgumentParser) -> None:
    bits = sub.add_mutually_exclusive_group()
    bits.add_argument("--4bit", dest="four_bit", action="store_const", const=True, help="weights in 4 bits (default: as it was trained)")
    bits.add_argument("--16bit", dest="four_bit", action="store_const", const=False, help="weights in 16 bits")
    sub.add_argument("--cpu", action="store_true", help="keep off the GPUs")


def _merge_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", metavar="RUN|ADAPTER", help="a run, a checkpoint's or adapter's folder, or a Hub id")
    sub.add_argument("--out", metavar="DIR", help="where the model goes (default: merged/ in the run's directory)")
    sub.add_argument(
        "--dtype", choices=["bfloat16", "float16", "float32"], help="of the weights (default: the base's 16 bits, or bfloat16)"
    )
    sub.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of one file (default: 5GB)")
    _whole_model_options(sub)


def _export_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", metavar="RUN|MODEL", help="a run, an adapter's or model's folder, or a Hub id")
    sub.add_argument(
        "--to", required=True, choices=["hf", "gguf"], help="a folder for transformers and vLLM, or a file for llama.cpp and Ollama"
    )
    sub.add_argument("--quant", default="Q8_0", choices=["F32", "F16", "BF16", "Q8_0"], help="of a GGUF file (default: Q8_0)")
    sub.add_argument("--out", metavar="FILE", help="the GGUF file (default: export/ in the run's directory)")
    sub.add_argument("--snippets", action="store_true", help="write how to serve it: vLLM, llama.cpp, Ollama's Modelfile")
    sub.add_argument("--converter", metavar="PATH", help="llama.cpp's convert_hf_to_gguf.py (default: of LLAMA_CPP_DIR, or on the PATH)")
    _whole_model_options(sub)


def _whole_model_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--base", metavar="MODEL", help="the full-precision base, where the adapter names another (a 4-bit copy, say)")
    sub.add_argument(
        "--no-check", action="store_true", help="do not compare logits and greedy text of the result with what it is made from"
    )
    sub.add_argument("--cpu", action="store_true", help="keep off the GPUs")
    _json_option(sub)


def _push_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", metavar="RUN|DIR", help="a run, or an adapter's or model's folder")
    sub.add_argument("repo", metavar="REPO_ID", help="the repository, e.g. your-name/gsm8k-lora; made if it is missing")
    sub.add_argument("--merged", action="store_true", help="the merged model instead of the adapter")
    sub.add_argument("--public", action="store_true", help="for everybody to see")
    sub.add_argument("--dry-run", action="store_true", help="show every file that would go, and where it comes from; send nothing")
    sub.add_argument("--message", metavar="TEXT", help="of the commit")
    sub.add_argument("--base", metavar="HUB_ID", help="the base model's name on the Hub, where it is only a folder here")
    _json_option(sub)


def _sweep_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("target", metavar="RECIPE|SWEEP")
    sub.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=V1,V2", help="values to try; several: every combination")
    sub.add_argument("--parallel", type=int, metavar="N", help="so many runs at a time (default: one for each GPU, one on the CPU)")
    sub.add_argument("--metric", metavar="NAME", help="what decides (default: eval_loss, or loss where nothing is evaluated)")
    sub.add_argument("--goal", choices=["min", "max"], help="whether less or more of it is better, where its name does not say so")
    sub.add_argument(
        "--stop-rule",
        default="none",
        metavar="RULE",
        help="median[:K]: stop a run whose best of K values (default 3) is worse than the others' median at the same step",
    )
    sub.add_argument("--table", action="store_true", help="the table of a sweep that is there")
    sub.add_argument("--force", action="store_true", help="start in spite of what preflight finds; the runs keep a note of it")
    sub.add_argument("--detach", action="store_true", help="return as soon as it has started")
    _json_option(sub)


def _json_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else there")


def _stream_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--plain", action="store_true", help="plain lines that a screen reader can follow")
    sub.add_argument("--json", action="store_true", help="one JSON line an event on stdout and nothing else there")


def _runs_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--runs", default="runs", metavar="DIR", help="where the runs are (default: runs)")
