"""What `tuitune plan` prints for people, from the document of tuitune.memory.report."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuitune.memory.advice import WITHIN
from tuitune.memory.step_time import StepTime, words
from tuitune.preflight.cards import GIB
from tuitune.text import printable


def print_plan(found: dict[str, Any], console: Console) -> None:
    """Verdict, components at the peak, phases, advice, cards."""
    peak, card = found["peak"], found["card"]
    console.print(_verdict(found))
    tokens, settings = found["length"]["tokens"], found["settings"]
    rows = settings["batch"] * (2 if settings["task"] in ("dpo", "reward") else 1)
    console.print(Text(_planned_for(found, rows), "dim"))
    if settings["gpus"] > 1:
        how = "weights, gradients and states are spread over them (fsdp)" if settings["spread"] else "each has a copy (ddp)"
        console.print(f"on each of {settings['gpus']} GPUs: {how}")
    if found["seconds_per_step"]:
        console.print(Text(words(StepTime(**found["seconds_per_step"]))))
    if found["basis"] != "formula":
        family = printable(found["model"]["family"])
        console.print(Text(f"{family} is a family tuitune has no formula for: measured on a model without memory", "yellow"))
    if calibration := found["calibration"]:
        runs = "1 run" if calibration["runs"] == 1 else f"{calibration['runs']} runs"
        console.print(Text(f"calibrated by {runs} on this box ({printable(calibration['file'])}; delete it to plan without)", "dim"))
    console.print(_components(found))
    others = ", ".join(f"{name} {_gib(size)}" for name, size in found["phases"].items() if name != peak["phase"])
    console.print(Text(f"other phases: {others}", "dim"))
    if found["advice"]:
        console.print(Text("faster, and still fits:" if found["fits"] else "to make it fit, each on top of those before:", "bold"))
    for advice in found["advice"]:
        change = advice["change"]
        keys = ", ".join(f"{key}: {value}" for key, value in {change["key"]: change["value"], **change["with"]}.items())
        console.print(Text(f"  {_gib(advice['peak']['nvml'])}  {keys}  (costs {advice['costs']})"))
    if found["largest"]:
        batch, length = found["largest"]["batch"], found["largest"]["length"]
        console.print(f"largest on {printable(card['name'])}: {batch} rows of {tokens:,} tokens, or {rows} of {length:,}")
    console.print(_card_table(found["cards"]))


def _planned_for(found: dict[str, Any], rows: int) -> str:
    """Which micro-batch, and where its length is from."""
    length, data = found["length"], found["length"]["data"]
    if data is None:
        why = f" ({length['why']}; `tuitune check` looks at it)" if length["why"] else ""
        return f"planned for {rows} rows of {length['tokens']:,} tokens at once: training.max_length{why}"
    mean = data["tokens"] / data["sequences"]
    of = f"of {data['sequences']:,} in the data (mean {mean:,.0f})"
    evaluation = f"; evaluation rows of {length['evaluation']:,}" if length["evaluation"] else ""
    if found["settings"]["packed"]:
        longest = f"the {rows} longest sequences {of}, the longest {length['tokens']:,}"
        return f"planned for {length['batch']:,} tokens at once: {longest}{evaluation}"
    return f"planned for {rows} rows of {length['tokens']:,} tokens at once: the longest {of}{evaluation}"


def _verdict(found: dict[str, Any]) -> Text:
    peak, card = found["peak"], found["card"]
    needs = f"needs {_gib(peak['nvml'])} (torch allocates {_gib(peak['allocated'])}), the most in: {peak['phase']}"
    if found["fits"] is None:
        return Text(f"{needs}; name a card with --gpu to see whether it fits", "bold")
    name = f"{printable(card['name'])}, {_gib(card['memory'])}"
    if not found["fits"]:
        return Text(f"does not fit on {name}: {needs}, {_gib(-found['margin'])} too much", "bold red")
    if found["margin"] < (1 - WITHIN) * card["memory"]:
        return Text(f"may just fit on {name}: {needs}; {_gib(found['margin'])} free is within what a plan is off", "bold yellow")
    return Text(f"fits on {name}: {needs}, {_gib(found['margin'])} free", "bold green")


def _components(found: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    shown = [one for one in found["components"] if one["phase"] in (found["peak"]["phase"], "process") and one["bytes"] >= GIB // 200]
    for component in sorted(shown, key=lambda one: -one["bytes"]):
        table.add_row(component["name"], _gib(component["bytes"]))
    return table


def _card_table(cards: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("card", "memory", "needs", ""):
        table.add_column(name, justify="right" if name in ("memory", "needs") else "left")
    for card in cards:
        table.add_row(card["name"], _gib(card["memory"]), _gib(card["nvml"]), "fits" if card["fits"] else "too small")
    return table


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
