"""What is on this box's card already: other people's processes and our own living run, as NVML tells it. Pure."""

from dataclasses import dataclass

from tuitune.workbench.gpu_feed import GpuNow
from tuitune.workbench.gpu_reading import OtherProcess

SHOWN = 3  # processes that are named; the others are added up
UNNAMED_FROM = 512 << 20  # bytes in use that no process is listed for; a driver takes some for itself


@dataclass(frozen=True)
class Held:
    """`bytes` of the card that a new run will not get, and who has them."""

    name: str
    bytes: int


def held_on(now: GpuNow, index: int = 0) -> tuple[Held, ...]:
    """Who holds how much of a card, the most first; nothing while the card has not been looked at."""
    gpu = next((reading for reading in now.sample.devices if reading.index == index), None)
    if gpu is None:
        return ()
    found = [Held(_words(other), int(other.memory)) for other in gpu.others if other.memory]
    if now.run and gpu.process:
        found.append(Held(f"run {now.run}", int(gpu.process)))
    found.sort(key=lambda held: -held.bytes)
    rest = found[SHOWN:]
    if rest:
        found = [*found[:SHOWN], Held(f"others ({len(rest)} more)", sum(held.bytes for held in rest))]
    unnamed = int(gpu.used or 0) - sum(held.bytes for held in found)
    return (*found, *((Held("others (not listed by the driver)", unnamed),) if unnamed > UNNAMED_FROM else ()))


def _words(other: OtherProcess) -> str:
    return f"others ({', '.join(part for part in (other.user, other.name) if part != '?') or 'unknown'})"
