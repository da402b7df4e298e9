"""A learning-rate schedule that can be changed while it runs and survives a resume.

torch's LambdaLR takes any callable as its factor and saves the `__dict__` of one that is an object. So the curve is plain data: a list of
segments, each valid from a scheduler step on. The first one is the curve that transformers planned; that function itself stays out of the
saved state and is made anew from the recipe at every start (run-control.md 2.3).
"""

import math
from collections.abc import Callable
from typing import Any

KINDS = ("scale", "hold", "linear", "cosine")


class LiveSchedule:
    """The factor of a parameter group's first rate at every scheduler step. `segments`, in order:

    start: scheduler step from which it holds · kind: planned, hold, linear or cosine · x, dx: where on its curve it starts, and how far it
    goes a step (planned: in steps of the recipe's plan; linear, cosine: from 0 to 1) · first, last: its values at 0 and 1 (planned: `first`
    multiplies the plan) · whole: whether it ends where the training ends, and stretches with max_steps.
    """

    __slots__ = ("__dict__", "planned", "planned_steps")  # LambdaLR saves __dict__ only, and with it neither of the other two

    def __init__(self, planned: Callable[[float], float], planned_steps: int) -> None:
        self.planned, self.planned_steps = planned, planned_steps
        self.segments: list[dict[str, Any]] = [_segment(0, "planned", 1.0, 0.0, 0, 1, True)]

    def __call__(self, step: float) -> float:
        """The factor at a scheduler step (0 is the first update's)."""
        return self._value(self._at(step), self._x(self._at(step), step))

    def scale(self, step: int, factor: float) -> None:
        """The present curve from `step` on, multiplied so that it is `factor` there. ValueError where it is 0: nothing scales that."""
        now = self(step)
        if now == 0:
            raise ValueError("the learning rate is 0 here, and 0 cannot be scaled; use kind=hold, linear or cosine")
        segment, ratio = self._at(step), factor / now
        self._add(
            {**segment, "start": step, "x": self._x(segment, step), "first": segment["first"] * ratio, "last": segment["last"] * ratio}
        )

    def hold(self, step: int, factor: float) -> None:
        """`factor` from `step` on."""
        self._add(_segment(step, "hold", factor, factor, 0.0, 0.0, True))

    def descend(self, step: int, kind: str, factor: float, last: float, steps: int, *, whole: bool) -> None:
        """From `factor` at `step` to `last` after `steps` more, in a `linear` or `cosine` curve, and stay there."""
        self._add(_segment(step, kind, factor, last, 0.0, 1 / max(1, steps), whole))

    def stretch(self, step: int, left: int) -> None:
        """What of the present curve goes to the end of the training shall end `left` steps from `step` on."""
        segment = self._at(step)
        x = self._x(segment, step)
        end = self.planned_steps if segment["kind"] == "planned" else 1.0
        if segment["whole"] and segment["kind"] != "hold":
            self._add({**segment, "start": step, "x": x, "dx": max(0.0, end - x) / max(1, left)})

    def _add(self, segment: dict[str, Any]) -> None:
        self.segments = [one for one in self.segments if one["start"] < segment["start"]] + [segment]

    def _at(self, step: float) -> dict[str, Any]:
        return next((one for one in reversed(self.segments) if one["start"] <= step), self.segments[0])

    def _x(self, segment: dict[str, Any], step: float) -> float:
        """Where on its curve a segment is at `step`; whole numbers stay whole, so that the plan itself gives what transformers would."""
        x: float = segment["x"] + (step - segment["start"]) * segment["dx"]
        return x

    def _value(self, segment: dict[str, Any], x: float) -> float:
        first, last = segment["first"], segment["last"]
        match segment["kind"]:
            case "planned":  # beyond its end some of transformers' curves rise again
                value: float = first * self.planned(min(x, self.planned_steps))
                return value
            case "linear":
                return float(first + (last - first) * min(x, 1.0))
            case "cosine":
                return float(last + (first - last) * (1 + math.cos(math.pi * min(x, 1.0))) / 2)
        return float(first)


def _segment(start: int, kind: str, first: float, last: float, x: float, dx: float, whole: bool) -> dict[str, Any]:
    return {"start": start, "kind": kind, "first": first, "last": last, "x": x, "dx": dx, "whole": whole}
