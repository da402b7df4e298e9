"""Which GPUs a run uses, and the lease that keeps two runs of this user from taking one card unasked.

A lease is a flock on a file per GPU UUID. The run's hub takes it and the trainer inherits it, so it lasts as long as either lives, and
the kernel lets go of it however they die.
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tuitune.bus.sockets import user_folder
from tuitune.errors import UserError
from tuitune.hub.headroom import holding
from tuitune.recipe.devices import wants_cpu

GIB = 1 << 30
ROOM = "TUITUNE_GPU_ROOM"  # to a job that shares a card: the bytes that it may take
IDLE = 0.1  # a card with less of its memory in use counts as idle


class GpusTaken(UserError):
    """Other runs have every card. `holders` says which run has which."""

    def __init__(self, holders: str) -> None:
        self.holders = holders
        super().__init__(
            f"other runs have the GPUs: {holders}. Wait for them (launch.wait: true), stop it (tuitune send RUN stop), or set "
            "launch.gpus: cpu"
        )


@dataclass
class Lease:
    """The cards a run holds (UUIDs; none on a box without GPU or when the recipe asks for the CPU) and the locks that say so."""

    uuids: list[str]
    locks: list[TextIO]
    cpu: bool = False  # the recipe keeps off the cards that there are
    note: str = ""  # one sentence for the user, about cards that stay idle
    room: int | None = None  # bytes of a shared card that are not the other run's

    def environment(self) -> dict[str, str]:
        """What the trainer needs to see these cards and no others, and a job to keep to its part of a shared one."""
        room = {} if self.room is None else {ROOM: str(self.room)}
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.uuids), **room} if self.uuids or self.cpu else {}

    def descriptors(self) -> tuple[int, ...]:
        """The locks' file descriptors, for the trainer to inherit."""
        return tuple(lock.fileno() for lock in self.locks)

    def release(self) -> None:
        """Let the cards go."""
        for lock in self.locks:
            lock.close()
        self.locks.clear()


def take_lease(
    wanted: object,
    devices: Sequence[Mapping[str, Any]],
    run: Path,
    environment: Mapping[str, str] = os.environ,
    *,
    beside: int | None = None,
) -> Lease:
    """Cards for `launch.gpus` (auto: the free one with the most free memory; a number: so many; 0, "none" or "cpu": no card).

    devices: of GpuSampler.sample(). CUDA_VISIBLE_DEVICES of the environment narrows the choice (its numbers are taken in the driver's
    order, which is CUDA's where the cards are alike). beside: bytes of memory with which a job is content on a card that another run has,
    as long as they are free at that run's peak too.
    GpusTaken when not enough of them are free; UserError when there are not so many.
    """
    wanted = "auto" if wanted is None else wanted  # `gpus:` with nothing after it
    if wants_cpu({"gpus": wanted}, {}):
        return Lease([], [], cpu=True)
    count = _count(wanted)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and "MIG-" in visible:
        return Lease([], [])  # a MIG slice was chosen by hand, and NVML's per-card numbers do not apply to it
    cards = candidates(devices, environment)
    if count > max(1, len(cards)):
        raise UserError(f"launch.gpus: {count}: {len(cards) or 'no'} GPUs are to be seen here; write {len(cards) or 'cpu'}")
    lease = Lease([], [])
    taken: list[tuple[Mapping[str, Any], str]] = []
    for position, device in enumerate(cards):
        lock, holder = _lock(str(device["uuid"]), run)
        if lock is None:
            taken.append((device, holder))
            continue
        lease.uuids.append(str(device["uuid"]))
        lease.locks.append(lock)
        if len(lease.uuids) == count:
            lease.note = _note(device, cards[position + 1 :]) if wanted == "auto" and beside is None else ""
            return lease
    lease.release()
    if taken and beside is not None and count == 1:
        return _shared([card for card, _ in taken], beside, [holder for _, holder in taken])
    if taken:
        raise GpusTaken("; ".join(f"GPU {card.get('index')} by {holder}" for card, holder in taken))
    return Lease([], [])


def _shared(cards: Sequence[Mapping[str, Any]], needed: int, runs: Sequence[str]) -> Lease:
    """The card that has the most left at the peak of the run that holds it, without its lock: that run keeps it. UserError when that is
    too little. runs: the holders, in the order of `cards`."""
    held = [holding(Path(run), str(card["uuid"])) for card, run in zip(cards, runs, strict=True)]
    free = [(card.get("mem_total") or 0) - (card.get("mem_used") or 0) - one.to_come for card, one in zip(cards, held, strict=True)]
    position = max(range(len(cards)), key=lambda number: (held[number].peak is not None, free[number]))
    card, run, one, left = cards[position], runs[position], held[position], max(0, free[position])
    name = Path(run).name
    remedy = f"{one.free_it}, or use the CPU (--cpu)"
    if one.peak is None:
        raise UserError(
            f"nobody knows yet how much of GPU {card.get('index')} {name} takes at its peak ({run}; a training says so at step 1): {remedy}"
        )
    if left < needed:
        raise UserError(
            f"it needs {needed / GIB:.1f} GiB of a GPU's memory, and {left / GIB:.1f} GiB are left of GPU {card.get('index')} beside "
            f"{name}, which takes {one.peak / GIB:.1f} GiB at its peak ({one.known_from}; {run}): {remedy}"
        )
    note = f"shares GPU {card.get('index')} with {name}, which leaves {left / GIB:.1f} GiB at its peak ({one.known_from})"
    return Lease([str(card["uuid"])], [], note=note, room=left)


def _count(wanted: object) -> int:
    """How many cards `launch.gpus` means."""
    text = "1" if wanted == "auto" else str(wanted)
    if isinstance(wanted, bool) or not (text.isascii() and text.isdecimal()):
        raise UserError(f"launch.gpus: {wanted}: write how many GPUs, auto for one, or cpu")
    return int(text)


def candidates(devices: Sequence[Mapping[str, Any]], environment: Mapping[str, str] = os.environ) -> list[Mapping[str, Any]]:
    """The cards a run may take, in the order in which it tries them: the one with the most free memory first."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    found = [device for device in devices if device.get("uuid") and _is_visible(device, visible)]
    return sorted(found, key=lambda device: (device.get("mem_total") or 0) - (device.get("mem_used") or 0), reverse=True)


def _note(taken: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """What to tell when cards are left idle. They are told by their memory: trying their locks could refuse another run its card."""
    idle = [str(card.get("index")) for card in others if (card.get("mem_used") or 0) < IDLE * (card.get("mem_total") or 0)]
    if not idle:
        return ""
    names = f"GPU {idle[0]} stays" if len(idle) == 1 else f"GPUs {', '.join(idle)} stay"
    return f"this run trains on GPU {taken.get('index')} alone, {names} free: launch.gpus says how many a run takes (auto is one)"


def _is_visible(device: Mapping[str, Any], visible: str | None) -> bool:
    if visible is None:
        return True
    words = [word.strip() for word in visible.split(",") if word.strip()]
    return any(word == str(device.get("index")) or str(device.get("uuid", "")).startswith(word) for word in words)


def _lock(uuid: str, run: Path) -> tuple[TextIO | None, str]:
    """(the lock, "") or (None, the run that holds it)."""
    file = (user_folder() / f"{uuid}.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another run"
        file.close()
        return None, holder
    file.truncate(0)
    file.write(str(run))
    file.flush()
    return file, ""
