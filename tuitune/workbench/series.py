"""A figure over steps or seconds, kept small: plain arrays, ascending x, spikes never lost. Imports nothing of Textual."""

from array import array
from bisect import bisect_left

LIMIT = 16_384  # points kept; past it older points are thinned by half (16 bytes each: 256 KiB a series at most)


class Series:
    """Points (x, y) in ascending x. A point at an x that is there already replaces it.

    `rewrites` counts how often points that were there already changed (a replaced or inserted point, a resumed run, thinning): whoever
    copies the points elsewhere appends while it stays the same and starts over when it does not.
    """

    __slots__ = ("rewrites", "xs", "ys")

    def __init__(self) -> None:
        self.xs: array[float] = array("d")
        self.ys: array[float] = array("d")
        self.rewrites = 0

    def __len__(self) -> int:
        return len(self.xs)

    @property
    def last(self) -> float | None:
        """The newest y, None before the first point."""
        return self.ys[-1] if self.ys else None

    def add(self, x: float, y: float) -> None:
        """Add a point; x must be finite, y may be nan or infinite (the chart shows a gap and a mark)."""
        if not self.xs or x > self.xs[-1]:
            self.xs.append(x)
            self.ys.append(y)
            if len(self.xs) > LIMIT:
                self._thin()
            return
        at = bisect_left(self.xs, x)
        if self.xs[at] == x:
            if self.ys[at] == y:
                return  # the same record read again
            self.ys[at] = y
        else:
            self.xs.insert(at, x)
            self.ys.insert(at, y)
        self.rewrites += 1

    def at(self, x: float) -> float | None:
        """The y of the newest point at or before x, None when x is before the first."""
        found = bisect_left(self.xs, x)
        if found < len(self.xs) and self.xs[found] == x:
            return self.ys[found]
        return self.ys[found - 1] if found else None

    def drop_after(self, x: float) -> None:
        """Forget the points beyond x: a resumed run trains those steps again."""
        keep = bisect_left(self.xs, x)
        keep += keep < len(self.xs) and self.xs[keep] == x
        if keep < len(self.xs):
            del self.xs[keep:]
            del self.ys[keep:]
            self.rewrites += 1

    def _thin(self) -> None:
        """Halve the number of points: the first stays, of every four after it the lowest and the highest, where they are."""
        xs, ys = self.xs[:1], self.ys[:1]
        whole = 1 + (len(self.xs) - 1) // 4 * 4
        for start in range(1, whole, 4):
            four = range(start, start + 4)
            known = [at for at in four if self.ys[at] == self.ys[at]]  # nan is unequal to itself
            if known:
                low = min(known, key=self.ys.__getitem__)
                high = max(known, key=self.ys.__getitem__)
                kept = sorted({low, high}) if low != high else [start, start + 3]
            else:
                kept = [start, start + 3]
            for at in kept:
                xs.append(self.xs[at])
                ys.append(self.ys[at])
        xs.extend(self.xs[whole:])
        ys.extend(self.ys[whole:])
        self.xs, self.ys = xs, ys
        self.rewrites += 1
