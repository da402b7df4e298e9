"""What `tuitune plan` prints: one document for scripts, and the same for people."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuitune.memory.advice import WITHIN, Advice, advise, fits, largest_batch, largest_length
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import device
from tuitune.preflight.cards import GIB, KNOWN
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.planning import Planned

COMMON = ("T4", "RTX 3060", "RTX 4080", "L4", "RTX 4090", "RTX 5090", "L40S", "A100", "H100", "H200", "B200")


def document(planned: "Planned") -> dict[str, Any]:
    """The JSON document of `tuitune plan --json`, without its "schema". Memory in bytes. `fits`, `margin` and `largest` are null without a
    card. `largest` and `advice` keep 5 % of the card free, which is what a plan may be off."""
    shape, settings, card = planned.shape, planned.settings, planned.card
    stack = device(card.capability if card else None)
    made = plan(shape, settings, stack)
    memory = card.memory if card else None
    found = [] if memory is None else advise(shape, settings, stack, memory)
    room = int((memory or 0) * WITHIN)
    return {
        "file": str(planned.file),
        "model": {"family": shape.family, "parameters": shape.parameters},
        "components": [asdict(component) for component in made.components if component.bytes],
        "phases": made.phases,
        "peak": {"allocated": made.allocated, "nvml": made.nvml, "phase": made.peak, "paged": made.paged},
        "card": card and {"name": card.name, "memory": memory, "capability": card.capability},
        "fits": None if memory is None else fits(made, memory),
        "margin": None if memory is None else memory - made.needed,
        "advice": [_advice(one) for one in found],
        "settings": asdict(settings),
        "length": {"tokens": settings.length, "from": planned.length_from},
        "largest": None
        if memory is None
        else {"batch": largest_batch(shape, settings, stack, room), "length": largest_length(shape, settings, stack, room)},
        "cards": _cards(planned),
    }


def _advice(advice: Advice) -> dict[str, Any]:
    (key, value), *more = advice.change.values.items()
    return {
        "change": {"key": key, "value": value, "with": dict(more)},
        "peak": {"allocated": advice.plan.allocated, "nvml": advice.plan.nvml},
        "costs": advice.change.costs,
    }


def _cards(planned: "Planned") -> list[dict[str, Any]]:
    """The run as it is on common cards. (Its 16-bit type is the one planned for.)"""
    plans: dict[Any, Plan] = {}
    rows = []
    for name in COMMON:
        memory, capability = KNOWN[name][0] * GIB, KNOWN[name][1]
        stack = device(capability)
        if stack not in plans:
            plans[stack] = plan(planned.shape, planned.settings, stack)
        made = plans[stack]
        rows.append({"name": name, "memory": memory, "nvml": made.nvml, "fits": fits(made, memory), "margin": memory - made.needed})
    return rows


def print_plan(found: dict[str, Any], console: Console) -> None:
    """Verdict, components at the peak, phases, advice, cards."""
    peak, card = found["peak"], found["card"]
    console.print(_verdict(found))
    tokens, settings = found["length"]["tokens"], found["settings"]
    rows = settings["batch"] * (2 if settings["task"] in ("dpo", "reward") else 1)
    console.print(Text(f"planned for {rows} rows of {tokens:,} tokens ({found['length']['from']}) at once", "dim"))
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
    shown = [one for one in found["components"] if one["phase"] in (found["peak"]["phase"], "process")]
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
