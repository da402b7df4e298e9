"""What each chart of the dashboard shows of a RunState. Pure functions."""

from collections.abc import Callable, Iterator, Sequence

from tuitune.workbench import figures
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.arrangement import LOSS, MEMORY, SPEED
from tuitune.workbench.views.run.axis import Mark
from tuitune.workbench.views.run.header import SHORT
from tuitune.workbench.views.run.memory import run_gpus
from tuitune.workbench.views.run.method_figures import GROUPS
from tuitune.workbench.views.run.plot import Figure, PlotLine

SHOWN_WITH_LOSS = ("loss", "eval_loss")


def figure_of(state: RunState, name: str, marks: Sequence[Mark] = (), gpu: int = 0) -> Figure:
    """The chart `name`: the loss, the memory of the run's `gpu`-th card, or any other metric by its own name."""
    if name == MEMORY:
        return _memory(state, gpu)
    if name == LOSS:
        lines = [
            PlotLine("loss", "one", state.metrics["loss"]) if "loss" in state.metrics else None,
            PlotLine("eval loss", "two", state.metrics["eval_loss"], dotted=True) if "eval_loss" in state.metrics else None,
        ]
    else:
        lines = list(_lines(state, name))
    title = SHORT.get(name, name.replace("_", " "))
    return Figure(
        title=title,
        lines=[line for line in lines if line is not None],
        value=figures.rate if name == SPEED else figures.number,
        tick=figures.rate if name == SPEED else figures.tick,
        place=_step,
        limit=state.max_steps,
        marks=marks,
        empty=f"no {title} yet",
    )


def _lines(state: RunState, name: str) -> Iterator[PlotLine | None]:
    """A metric with its value in evaluations, or the metrics of a group."""
    if name in GROUPS:
        for (metric, word), role in zip(GROUPS[name].metrics, ("one", "two", "three")):
            yield PlotLine(word, role, state.metrics[metric]) if metric in state.metrics else None
        return
    evaluated = state.metrics.get(f"eval_{name}")
    if name in state.metrics:
        yield PlotLine("train" if evaluated else "", "one", state.metrics[name])
    if evaluated:
        yield PlotLine("eval", "two", evaluated, dotted=True)


def other_metrics(state: RunState) -> list[str]:
    """The metrics a chart can show, by name; the loss has its own chart."""
    groups = [title for title, group in GROUPS.items() if all(metric in state.metrics for metric, _ in group.metrics)]
    return groups + sorted(name for name in state.metrics if name not in SHOWN_WITH_LOSS)


def _memory(state: RunState, gpu: int) -> Figure:
    cards = run_gpus(state)
    if not cards:
        lines = [PlotLine("box", "two", state.ram), PlotLine("run", "one", state.tree_rss, dotted=True)]
        return over_time("RAM GiB", [line for line in lines if len(line.series)])
    card = cards[gpu % len(cards)]
    lines = [PlotLine("device", "two", card.gpu.used, short="dev")]
    if card.torch is not None:
        lines += [
            PlotLine("reserved", "one", card.torch.reserved, dotted=True, short="res"),
            PlotLine("allocated", "three", card.torch.allocated, short="alloc"),
        ]
    elif len(card.gpu.process):
        lines.append(PlotLine("run", "one", card.gpu.process, dotted=True))
    many = len(cards) > 1 or len(state.gpus) > 1
    return over_time(f"GPU {card.gpu.now.index} GiB" if many else "memory GiB", lines, f"GPU {card.gpu.now.index}" if many else "GiB")


def over_time(title: str, lines: list[PlotLine], short: str = "", place: Callable[[float | None], str] = figures.duration) -> Figure:
    """A figure of bytes over seconds."""
    return Figure(
        title=title,
        lines=lines,
        value=figures.gib,
        tick=figures.gib,
        place=place,
        short=short,
        place_word="time",
        unit=1 << 30,
        from_zero=True,
        empty="no memory figures yet",
    )


def _step(x: float | None) -> str:
    return figures.UNKNOWN if x is None else f"{x:.0f}"
