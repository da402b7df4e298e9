"""`launch.retry`: when the hub starts the next attempt by itself, and with what. Pure: no files, no processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Never: what the user has to mend (user_error, disk_full) and what somebody wanted (terminated, a kill or stop that was asked for).
KINDS = {
    "gpu_oom": "oom",
    "host_oom": "crash",
    "no_memory": "crash",
    "shared_memory": "crash",
    "killed": "crash",
    "cuda_fault": "crash",
    "nccl": "crash",
    "native_crash": "crash",
    "error": "crash",
    "vanished": "crash",
}
BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


@dataclass(frozen=True)
class Retry:
    """What to do about a fault: start again with `overrides`, or (again False) leave it, with the reason in `words`."""

    again: bool
    words: str = ""
    kind: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)


def policy(launch: Mapping[str, Any]) -> dict[str, int]:
    """How often the recipe's `launch:` allows it, by kind of fault; what it does not say is 0."""
    retry = launch.get("retry")
    allowed = retry if isinstance(retry, Mapping) else {}
    return {kind: max(0, value) if isinstance(value := allowed.get(kind), int) else 0 for kind in ("oom", "crash")}


def decide(fault: str, allowed: Mapping[str, int], retried: Mapping[str, int], *, batch: tuple[int, int] | None, began: bool) -> Retry:
    """fault: a kind of tuitune.hub.faults. retried: attempts started so far by kind. batch: (rows a device, accumulation steps) of the
    attempt that failed, None when unknown. began: whether that attempt has trained a step."""
    kind = KINDS.get(fault)
    if kind is None or not allowed.get(kind):
        return Retry(False)
    count = retried.get(kind, 0) + 1
    if count > allowed[kind]:
        return Retry(False, f"launch.retry: {kind}: {allowed[kind]} is used up")
    if fault == "error" and not began:
        return Retry(False, "an error of the program before the first step would come again")
    said = f"{kind} {count} of {allowed[kind]}"
    if kind != "oom":
        return Retry(True, said, kind)
    if batch is None:
        return Retry(False, "the batch size is not known, so it cannot be halved: write per_device_train_batch_size into the recipe")
    smaller = halved(*batch)
    if smaller is None:
        return Retry(False, "the batch has one row, so it cannot be halved: shorten max_length or choose a smaller model or a larger card")
    overrides = {"training": {BATCH: smaller[0], ACCUMULATION: smaller[1]}}
    return Retry(True, f"{said}, {BATCH} {batch[0]} → {smaller[0]}, {ACCUMULATION} {batch[1]} → {smaller[1]}", kind, overrides)


def halved(rows: int, accumulation: int) -> tuple[int, int] | None:
    """At most half the rows, and as many more accumulation steps, so that an update keeps its rows; None at one row.

    An odd batch has no half: the next smaller one that divides the update's rows is taken (5 × 1 → 1 × 5, 5 × 2 → 2 × 5).
    """
    update = rows * accumulation
    smaller = next((fewer for fewer in range(rows // 2, 0, -1) if update % fewer == 0), None)
    return None if smaller is None else (smaller, update // smaller)
