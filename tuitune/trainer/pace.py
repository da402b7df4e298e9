"""How long a run's steps take, for later plans on this box: the median, so that neither first steps nor pauses count. Imports no torch."""

import time
from statistics import median

WARM_UP = 2  # steps: kernels are loaded, the allocator grows
FEWEST = 5  # steps after that


class Pace:
    """`begin` and `end` around every optimizer step; evaluations and checkpoints lie between them."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._took: list[float] = []

    def begin(self) -> None:
        """A step's first micro-batch is about to run."""
        self._began = time.monotonic()

    def end(self) -> None:
        """The optimizer has stepped."""
        if self._began is not None:
            self._took.append(time.monotonic() - self._began)
            self._began = None

    @property
    def seconds(self) -> float | None:
        """Of a step; None when there were too few."""
        steady = self._took[WARM_UP:]
        return median(steady) if len(steady) >= FEWEST else None
