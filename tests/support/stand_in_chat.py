"""A chat job without a model, for tests of those who talk with one: each side says the question back, word by word, with its own name.

A question that has "long" in it is answered until somebody interrupts; one with "refuse" is refused. args: `sides` as of a real chat.
"""

import time
from typing import Any

from tuitune.after.job import Job

OPS = ("ask", "interrupt", "regenerate", "reset", "probabilities")
KEYS = ("left", "right")


def run(job: Job) -> dict[str, Any]:
    """Answer until it is stopped."""
    keys = KEYS[: len(job.args["sides"])]
    facts = {"weights": "float32", "device": "cpu", "template": True}
    job.emit(
        "chat",
        sides=[{"side": key, "words": f"model {key}", **facts} for key in keys],
        system="",
        params={"temperature": 0.7, "seed": None},
    )
    job.state("running", "ready")
    asked: list[str] = []
    while not job.stopped():
        for command in job.commands():
            take(job, command, asked, keys)
        time.sleep(0.01)
    return {"turns": len(asked)}


def take(job: Job, command: dict[str, Any], asked: list[str], keys: tuple[str, ...]) -> None:
    """One command."""
    op, args = command["op"], command["args"]
    text = args.get("text") or (args.get("messages") or [{}])[-1].get("content") or (asked[-1] if asked else "")
    if op in ("ask", "regenerate"):
        if "refuse" in text:
            job.answer(command, "the template refuses this")
            return
        if op == "ask":
            asked.append(text)
        params = {**args.get("params", {}), "seed": args.get("params", {}).get("seed") or 11}
        job.emit("turn", turn=len(asked), text=text, system="", params=params, again=op == "regenerate", sides=list(keys))
        job.answer(command, turn=len(asked))
        speak(job, len(asked), text, keys)
    elif op == "probabilities":
        top = [["cat", 0.5], ["\x1b[31mdog", 0.25]]
        for key in keys:
            job.emit("probabilities", turn=args["turn"], side=key, start=0, last=True, tokens=[{"text": "cat", "p": 0.5, "top": top}])
        job.answer(command)
    else:
        if op == "reset":  # turns are numbered on, as in a real chat
            job.emit("reset", system=args.get("system", ""))
        job.answer(command)


def speak(job: Job, turn: int, text: str, keys: tuple[str, ...]) -> None:
    """Each side's answer."""
    for key in keys:
        for word in [key, *text.split()] if "long" not in text else [key, "and"] * 10_000:
            job.emit("say", turn=turn, side=key, text=f"{word} ")
            time.sleep(0.01)
            for command in job.commands():
                job.answer(command)
                if command["op"] == "interrupt":
                    job.emit("said", turn=turn, side=key, tokens=3, ended="interrupted")
                    return
            if job.stopped():
                return
        job.emit("said", turn=turn, side=key, tokens=len(text.split()) + 1, tokens_per_second=50.0, ended="stop token")
