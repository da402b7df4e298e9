"""Which charts of a run are on screen at which size: plain data, so that it can be tested without drawing anything.

The order of NAMES is the order on screen; a grid fills its rows from it.
"""

from dataclasses import dataclass

LOSS, RATE, GRAD, SPEED, MEMORY, TABLE = "loss", "learning_rate", "grad_norm", "tokens_per_second", "memory", "memory_table"
CHARTS = (LOSS, RATE, GRAD, SPEED, MEMORY)
NAMES = (*CHARTS, TABLE)
TWO_COLUMNS, THREE_COLUMNS = 54, 100  # cells of width from which a grid of that many columns reads well
LOSS_ROWS, SMALL_ROWS, TABLE_ROWS = 8, 7, 8  # the least height at which each is worth showing


@dataclass(frozen=True)
class Arrangement:
    """`cells`: what is shown and over how many columns. `rows`: a Textual height for each row of the grid."""

    columns: int
    cells: tuple[tuple[str, int], ...]
    rows: tuple[str, ...]

    @property
    def charts(self) -> tuple[str, ...]:
        """The charts on screen, without the table."""
        return tuple(name for name, _ in self.cells if name != TABLE)


def arrange(width: int, height: int, active: str = LOSS, *, maximised: bool = False) -> Arrangement:
    """The charts for `width` × `height` cells. One chart at a time (the active one) when it is maximised or the place is small."""
    small_rows = (height - LOSS_ROWS) // SMALL_ROWS
    if maximised or width < TWO_COLUMNS or small_rows < 1:
        return _single(height, active)
    if width < THREE_COLUMNS:
        if small_rows == 1:
            return Arrangement(2, ((LOSS, 2), (GRAD, 1), (MEMORY, 1)), ("3fr", "2fr"))
        four = ((LOSS, 2), (RATE, 1), (GRAD, 1), (SPEED, 1), (MEMORY, 1))
        if height < LOSS_ROWS + 2 * SMALL_ROWS + TABLE_ROWS:
            return Arrangement(2, four, ("3fr", "2fr", "2fr"))
        return Arrangement(2, (*four, (TABLE, 2)), ("3fr", "2fr", "2fr", "auto"))
    if small_rows == 1:
        return Arrangement(3, ((LOSS, 3), (GRAD, 1), (SPEED, 1), (MEMORY, 1)), ("3fr", "2fr"))
    return Arrangement(3, ((LOSS, 3), (RATE, 1), (GRAD, 1), (SPEED, 1), (MEMORY, 2), (TABLE, 1)), ("3fr", "2fr", "2fr"))


def _single(height: int, active: str) -> Arrangement:
    if active == MEMORY and height >= SMALL_ROWS + TABLE_ROWS - 2:
        return Arrangement(1, ((MEMORY, 1), (TABLE, 1)), ("1fr", "auto"))
    return Arrangement(1, ((active, 1),), ("1fr",))
