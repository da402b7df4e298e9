"""`tuitune doctor`: this computer for training, with or without a GPU: what is here, what is wrong with it, and what to do."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tuitune.files import cache_dir
from tuitune.preflight.box import Box, look_at_box
from tuitune.preflight.box_context import BoxContext
from tuitune.preflight.cards import GIB, this_box
from tuitune.preflight.finding import Finding, as_json
from tuitune.preflight.registry import Stage, all_checks
from tuitune.preflight.run import Outcome, run_checks
from tuitune.text import printable
from tuitune.versions import installed

SIGNS = {"error": ("✗", "bold red"), "warning": ("⚠", "yellow"), "info": ("i", "cyan")}


@dataclass
class Diagnosis:
    """`facts`: (what, how it is) for people; the findings of the environment's checks."""

    box: Box
    facts: list[tuple[str, str]]
    outcome: Outcome

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.outcome.findings)


def diagnose(workspace: Path) -> Diagnosis:
    """Look at this box and judge it for a run in `workspace`. Takes some seconds."""
    box = look_at_box(anew=True)
    outcome = run_checks(all_checks(), BoxContext(box, this_box(), workspace), {Stage.BOX})
    return Diagnosis(box, facts(box, workspace), outcome)


def facts(box: Box, workspace: Path) -> list[tuple[str, str]]:
    """What is here, a line each."""
    torch, quantising = box.libraries.get("torch", {}), box.libraries.get("bitsandbytes", {})
    if box.libraries.get("error"):
        torch = quantising = {"version": "could not be asked"}
    cuda = f"CUDA {torch['cuda']}" if torch.get("cuda") else "CPU build"
    speaks = f", CUDA {box.driver_cuda[0]}.{box.driver_cuda[1]}" if box.driver_cuda else ""
    found = [("GPU", _gpu(device)) for device in box.devices] or [("GPU", box.nvml_error or "none")]
    for device in box.devices:
        found += [("  used by", _user(other)) for other in device["others"]]
    if box.driver:
        found.append(("driver", f"{box.driver}{speaks}"))
    found += [
        (
            "torch",
            f"{torch.get('version') or 'not to be imported'} ({cuda}), {'sees the GPU' if torch.get('available') else 'sees no GPU'}",
        ),
        ("bitsandbytes", f"{quantising.get('version') or 'not installed'}, {'works' if quantising.get('works') else 'does not work'}"),
    ]
    found += [(name, version or "not installed") for name, version in box.versions.items() if name not in ("torch", "bitsandbytes")]
    found.append(("liger-kernel", _liger()))
    disk = box.disk_free(workspace)
    found += [
        ("memory", f"{box.memory_free / GIB:.1f} of {box.memory / GIB:.1f} GiB free"),
        ("disk", f"{'unknown' if disk is None else f'{disk / GIB:.1f} GiB'} free in {printable(str(workspace))}"),
        ("cache", f"{printable(str(cache_dir()))}, {_size(cache_dir()) / GIB:.1f} GiB"),
        ("open files", f"{box.open_files:,}"),
        ("/dev/shm", "none" if box.shared_memory is None else f"{box.shared_memory / GIB:.1f} GiB"),
        (
            "terminal",
            f"{shutil.get_terminal_size().columns}×{shutil.get_terminal_size().lines}, {box.environment.get('TERM') or 'no TERM'}",
        ),
    ]
    return found


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """The JSON document, without its "schema"."""
    box = diagnosis.box
    return {
        "facts": [{"what": what, "text": text} for what, text in diagnosis.facts],
        "devices": box.devices,
        "libraries": box.libraries,
        "versions": box.versions,
        "findings": [as_json(finding) for finding in diagnosis.outcome.findings],
        "summary": {"errors": diagnosis.errors, "checks": len(diagnosis.outcome.ran), "skipped": diagnosis.outcome.skipped},
    }


def print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Facts in two columns, then what is wrong, then one line that sums up."""
    for what, text in diagnosis.facts:
        console.print(Text.assemble((f"{what:<14}", "dim"), printable(text)))
    console.print()
    for finding in diagnosis.outcome.findings:
        console.print(_line(finding))
    if not diagnosis.outcome.findings:
        console.print(Text("Nothing is wrong with this box.", "green"))


def _line(finding: Finding) -> Text:
    sign, style = SIGNS[finding.severity]
    return Text.assemble((f"{sign} ", style), (f"{finding.id}  ", "dim"), printable(finding.message, newlines=True))


def _liger() -> str:
    version = installed(("liger-kernel",))["liger-kernel"]
    return version or "not installed (on a GPU it makes 16-bit runs faster and smaller: pip install tuitune[fast])"


def _gpu(device: dict[str, Any]) -> str:
    if device["mem_total"] is None:
        return f"{device['index']}: {device['name']}"
    free = (device["mem_total"] - (device["mem_used"] or 0)) / GIB
    heat = f", {device['temp']} °C" if device["temp"] is not None else ""
    return f"{device['index']}: {device['name']}, {free:.1f} of {device['mem_total'] / GIB:.1f} GiB free{heat}"


def _user(other: dict[str, Any]) -> str:
    held = f", {other['mem'] / GIB:.1f} GiB" if other["mem"] else ""
    return f"{other['name'] or 'a process'} of {other['user'] or 'somebody'}, pid {other['pid']}{held}"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
