"""Which parts of the workbench are on screen, decided from the size of the terminal and what the user asked for. Imports no Textual."""

from dataclasses import dataclass

from tuitune.workbench.settings import Settings

NARROW = 100  # columns below which only one side is shown at a time
GPU_FROM = 110  # columns from which the GPU panel is shown unasked
SHORT = 30  # rows below which the key hints go and the panel starts hidden
EDITOR, ACTIVITY, SMALLEST = 40, 4, 16  # columns: the editor's least, the activity bar, the least of a side
SIDE, GPU = "side", "gpu"


@dataclass(frozen=True)
class Wishes:
    """What the user asked for in this session, beside the settings. drawer: the one side shown on a narrow terminal ("" = none)."""

    drawer: str = ""
    short_panel: bool = False
    maximised: bool = False


@dataclass(frozen=True)
class Parts:
    """Sizes in cells; 0 = not shown."""

    activity: bool
    side: int
    gpu: int
    panel: int
    hints: bool


def parts_shown(width: int, height: int, settings: Settings, wishes: Wishes) -> Parts:
    """What to show at this size. The editor keeps 40 columns wherever a side can be 16 wide, and half of the rows."""
    short = height < SHORT
    if wishes.maximised:
        return Parts(False, 0, 0, 0, not short)
    activity = width >= 60
    room = width - EDITOR - ACTIVITY * activity
    if width < NARROW:
        side = _fit(settings.side_bar_width, room) if wishes.drawer == SIDE else 0
        gpu = _fit(settings.gpu_panel_width, room) if wishes.drawer == GPU else 0
    else:
        want_gpu = settings.gpu_panel if settings.gpu_panel is not None else width >= GPU_FROM
        gpu = _fit(settings.gpu_panel_width, room - SMALLEST * settings.side_bar) if want_gpu else 0
        side = _fit(settings.side_bar_width, room - gpu) if settings.side_bar else 0
    wanted = wishes.short_panel if short else settings.panel
    panel = min(settings.panel_height, max(4, (height - 6) // 2)) if wanted else 0
    return Parts(activity, side, gpu, panel, not short)


def _fit(wanted: int, room: int) -> int:
    return max(SMALLEST, min(wanted, room))
