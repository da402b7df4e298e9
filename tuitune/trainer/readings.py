"""Figures of GPU memory as plain records. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reading:
    """Bytes since the last reading. `allocated` and `reserved`: torch's peaks; `now`: live at this moment."""

    allocated: int
    reserved: int
    now: int


@dataclass(frozen=True)
class OnCard:
    """The card by NVML. `process`: bytes of this process, None when the driver hides whose memory it is; `others`: who else holds how
    much."""

    card: str | None = None
    driver: str | None = None
    process: int | None = None
    others: list[dict[str, Any]] = field(default_factory=list)


def of_card(sample: dict[str, Any], uuid: str) -> OnCard:
    """One card of a sample of tuitune.hub.gpu. In a container NVML may know this process by a pid of the host: alone on a card it is still
    this one."""
    device = next((one for one in sample["devices"] if str(one["uuid"]).lower().removeprefix("gpu-") == uuid), None)
    if device is None:
        return OnCard(driver=sample["driver"])
    process, others = device["proc_mem"], device["others"]
    if process is None and len(others) == 1 and others[0]["name"] == "hidden":
        process, others = others[0]["mem"], []
    return OnCard(device["name"], sample["driver"], process, others)
