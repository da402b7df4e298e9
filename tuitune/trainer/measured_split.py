"""`launch.measure_split`: before the first step, how long an update takes in a few of the splits that fit, on the rows the run begins with.

    build ── on the CPU: what a small micro-batch takes of the RAM
          ── each of up to five splits: a micro-batch to warm up, then the same rows one to three times, forward and backward
          ── the fastest goes into the trainer's arguments and the ledger ── train

It takes a minute at most: the clock is read before every micro-batch, and a split that has taken longer than the best so far is cut off.
The plan's choice stays unless another was measured to be faster by more than chance, and before that one is taken, both are measured once
more, in case the box was busy the first time. So a run loses the measurement's own time at most. And it fits: on a GPU only what the plan
says fits is tried, on the first rows, not on the longest; on the CPU, where nobody has planned, only what would take less than half of the
free RAM with its longest rows, by what the small micro-batch took.

Nothing of it is left (tuitune.trainer.traceless): the losses are to the bit those of a run that was written with the split.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any

import torch

from tuitune.recipe.aliases import twin
from tuitune.recipe.update_rows import ACCUMULATION, BATCH, MEASURE, why_not_measured
from tuitune.trainer.box import FillIn
from tuitune.trainer.build import Built
from tuitune.trainer.host_memory import Rise, free_memory
from tuitune.trainer.longest import longest_batch
from tuitune.trainer.ready import OURS, ready_to_train, recompute_as_told, write_split
from tuitune.trainer.split_batch import free, is_out_of_memory
from tuitune.trainer.telemetry import Telemetry
from tuitune.trainer.traceless import without_trace
from tuitune.update_split import AGAIN, AGAIN_KWARGS, with_values

BUDGET_S = 60.0
KEPT = 0.1  # of it, for a micro-batch that takes longer than those before it have
MOST = 5  # splits
PASSES = 3  # of one split: the quickest counts, the least disturbed
MARGIN = 0.03  # a difference as small as this is taken for chance
LONG_S = 1.0  # a micro-batch that takes longer needs none before it to warm up: what it does once is little of it
HOPELESS = 3.0  # times the best: so much longer no first pass takes for its warming up alone
SPARE_RAM = 0.5  # of the RAM that is free: what a micro-batch may take on the CPU
GIB = 1 << 30

Clock = Callable[[], float]


@dataclass
class Candidate:
    """A split by key of `training:` (newest names). `passes`: seconds over the rows that all candidates were measured on; `why`: what ended
    its measurement early, "" for nothing; `too_large`: memory did not do for it."""

    values: Mapping[str, FillIn]
    passes: list[float] = field(default_factory=list)
    why: str = ""
    too_large: bool = False

    @property
    def batch(self) -> int:
        """Rows of a micro-batch."""
        return int(self.values[BATCH].value)

    @property
    def accumulation(self) -> int:
        """Micro-batches of an update."""
        return int(self.values[ACCUMULATION].value)

    @property
    def recomputed(self) -> int:
        """Every so manieth layer is computed again; 0: none, or the recipe says it."""
        if AGAIN not in self.values or not self.values[AGAIN].value:
            return 0
        kwargs = self.values.get(AGAIN_KWARGS)
        return int(kwargs.value["every_n_layers"]) if kwargs else 1

    @property
    def seconds(self) -> float | None:
        """Of the quickest pass."""
        return min(self.passes, default=None)

    def __str__(self) -> str:
        """ "4 × 2 rows": micro-batches × rows of each."""
        layers = {0: "", 1: ", all layers computed again"}.get(self.recomputed, f", 1 layer in {self.recomputed} computed again")
        return f"{self.accumulation} × {self.batch} row{'s' * (self.batch > 1)}{layers}"


def measure_split(
    built: Built, splits: Sequence[Mapping[str, FillIn]], telemetry: Telemetry, *, planned: bool, clock: Clock = perf_counter
) -> None:
    """Write the split that was measured to be the fastest into the built trainer and its ledger's reasons; journal what was measured.

    `splits`: of tuitune.update_split.splits, the first is what the trainer was built with; `planned`: a memory plan says that they fit.
    """
    recipe = built.recipe
    why = why_not_measured(recipe.launch, recipe.training, recipe.task) or _why_not(built, splits, planned)
    if why:
        built.filled["launch", MEASURE] = FillIn(True, f"not measured: {why}")
        return
    began = clock()
    measurement = Measurement(built, [Candidate(values) for values in splits], telemetry, clock)
    candidates = measurement.run()
    chosen, seconds = choose(candidates), clock() - began
    _write(built, chosen, candidates, measurement.updates)
    count = sum(one.seconds is not None for one in candidates)
    built.filled["launch", MEASURE] = FillIn(True, f"{count} of {len(candidates)} splits were measured in {seconds:.1f} s")
    telemetry.journal.emit(
        "split",
        candidates=[_record(one, measurement.updates) for one in candidates],
        chosen=candidates.index(chosen),
        seconds=round(seconds, 2),
        why=_why_chosen(chosen, candidates, measurement.updates),
    )


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest that was measured; the first, which the plan has chosen, where none is faster by more than MARGIN.

    The first also where the time did not do to measure it. Where memory did not do for it, the fastest of the others, or the likeliest.
    """
    first, measured = candidates[0], [one for one in candidates if one.seconds is not None]
    if first.too_large:
        return min(measured, key=_seconds, default=next((one for one in candidates if not one.too_large), first))
    if first.seconds is None:
        return first
    best = min(measured, key=_seconds)
    return best if _seconds(best) < (1 - MARGIN) * first.seconds else first


def _seconds(candidate: Candidate) -> float:
    return math.inf if candidate.seconds is None else candidate.seconds


class Measurement:
    """One measurement; `run` is called once. `updates`: how many updates the rows are that were measured on, less than one mostly."""

    def __init__(self, built: Built, candidates: Sequence[Candidate], telemetry: Telemetry, clock: Clock) -> None:
        self.trainer, self.cuda, self.telemetry, self.clock = built.trainer, built.box.cuda, telemetry, clock
        self.candidates = list(candidates)
        self.deadline = math.inf
        self.row_seconds = 0.0  # as the last pass took them: what the next micro-batch will take
        self.updates = 1.0

    def run(self) -> list[Candidate]:
        """What was measured, the plan's choice first."""
        self.deadline = self.clock() + (1 - KEPT) * BUDGET_S
        try:
            with without_trace(self.trainer), ready_to_train(self.trainer):
                if not self.cuda:
                    self._keep_what_fits_the_host()
                self.candidates = self.candidates[:MOST]
                rows = math.lcm(*(one.batch for one in self.candidates if not one.too_large))
                self.updates = rows / (self.candidates[0].batch * self.candidates[0].accumulation)
                self._measure_each(rows)
        finally:
            free()
            if self.cuda:
                torch.cuda.reset_peak_memory_stats()
        return self.candidates

    def _measure_each(self, rows: int) -> None:
        count, first = len(self.candidates), self.candidates[0]
        for number, candidate in enumerate(self.candidates):
            if candidate.too_large:
                continue
            best = min(map(_seconds, self.candidates))
            until = self.clock() + (self.deadline - self.clock()) / (count - number)
            self._try(candidate, f"{number + 1} of {count}", partial(self._measure, candidate, rows, best, until))
            if candidate is first and first.seconds is None and not first.too_large:
                return  # with nothing to compare with, none could be taken
        chosen = choose(self.candidates)
        for candidate in (first, chosen) if chosen is not first and not first.too_large else ():
            self._try(candidate, "once more", partial(self._measure_again, candidate, rows))

    def _try(self, candidate: Candidate, which: str, work: Callable[[], None]) -> None:
        """Say it and do it; memory that runs out meanwhile costs the candidate, not the run."""
        self.telemetry.journal.emit("state", s="loading", why=f"measuring {which}: {candidate}")
        try:
            work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            candidate.passes.clear()
            candidate.why, candidate.too_large = "out of memory", True
        self.trainer.model.zero_grad(set_to_none=True)
        free()  # after the error has gone, whose frames hold the pass's tensors

    def _measure(self, candidate: Candidate, rows: int, best: float, until: float) -> None:
        """Up to PASSES passes over the first `rows` rows. best: seconds of a pass so far; until: when this candidate's time is over."""
        if not self._time_for(candidate.batch):
            candidate.why = "no time was left"
            return
        batches, items = self._warm(candidate, rows)
        while len(candidate.passes) < PASSES:
            first = not candidate.passes
            if not first and self.clock() + candidate.passes[-1] > until:
                return
            limit = min(HOPELESS * best, BUDGET_S / 2) if first else best
            took, candidate.why = self._pass(batches, items, candidate.batch, limit)
            if took is None:
                return
            candidate.passes.append(took)
            best = min(best, took)
            self.row_seconds = took / rows

    def _measure_again(self, candidate: Candidate, rows: int) -> None:
        """One more pass, where there is time for all of it."""
        self.row_seconds = max(candidate.passes) / rows
        if self._time_for(rows):
            took, _ = self._pass(*self._warm(candidate, rows), candidate.batch, math.inf)
            candidate.passes += [] if took is None else [took]

    def _warm(self, candidate: Candidate, rows: int) -> tuple[list[Any], Any]:
        """The candidate's batches of the first `rows` rows, and their number of items; one was run unless that would take long."""
        batches, items = self._batches(candidate, rows // candidate.batch)
        if candidate.batch * self.row_seconds < LONG_S:
            began = self.clock()
            self._step(batches[0], items)
            self._wait()
            took = self.clock() - began
            self.row_seconds = took / candidate.batch if took > LONG_S else self.row_seconds
        return batches, items

    def _pass(self, batches: list[Any], items: Any, rows: int, limit: float) -> tuple[float | None, str]:
        """(seconds, "") of all batches, forward and backward; (None, why) where it was cut off. rows: of a batch."""
        self.trainer.model.zero_grad(set_to_none=True)
        self._wait()
        began = self.clock()
        for batch in batches:
            if self.clock() - began > limit:
                return None, f"cut off after {self.clock() - began:.2g} s"
            if not self._time_for(rows):
                return None, "no time was left"
            self._step(batch, items)
        self._wait()
        return self.clock() - began, ""

    def _batches(self, candidate: Candidate, count: int) -> tuple[list[Any], Any]:
        """The first micro-batches of the run in this split, and the number of items that their losses are divided by."""
        trainer = self.trainer
        write_split(trainer, candidate.values)
        recompute_as_told(trainer)
        loader = trainer.get_train_dataloader()
        collated = (loader.collate_fn([loader.dataset[row] for row in rows]) for rows in islice(loader.batch_sampler, count))
        batches, items = trainer.get_batch_samples(collated, count, trainer.args.device)
        trainer.current_gradient_accumulation_steps = candidate.accumulation
        return batches, items

    def _step(self, batch: Any, items: Any) -> None:
        """The trainer's own, on a copy: it adds to the inputs."""
        self.trainer.training_step(self.trainer.model_wrapped, dict(batch), items)

    def _time_for(self, rows: int) -> bool:
        return self.clock() + rows * self.row_seconds <= self.deadline

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def _keep_what_fits_the_host(self) -> None:
        """Mark what is too large for the RAM with its longest rows, and put the smallest first where nothing else is left.

        A position takes as much of a large micro-batch as of a small one, whose second pass is watched: the first one makes the gradients
        and loads libraries. That the attention's part can grow with the square of the length is in the half that is kept free.
        """
        smallest = min(self.candidates, key=lambda one: one.batch)
        batches, items = self._batches(smallest, 1)
        self._step(batches[0], items)
        room = SPARE_RAM * free_memory()
        began = self.clock()
        with Rise() as rise:
            self._step(batches[0], items)
        self.row_seconds = (self.clock() - began) / smallest.batch
        position = rise.bytes / batches[0]["input_ids"].numel()
        loader, padded = self.trainer.get_train_dataloader(), not getattr(self.trainer.data_collator, "padding_free", False)
        for candidate in self.candidates:
            longest = longest_batch(loader, candidate.batch, padded=padded)
            need = position * longest.batch.tokens if longest else math.inf
            if candidate is not smallest and need > room:
                candidate.too_large = True
                candidate.why = f"its longest micro-batch would take about {need / GIB:.1f} GiB, more than half of the RAM that is free"
        rest = [one for one in self.candidates[1:] if not one.too_large]
        self.candidates = [self.candidates[0], *rest]


def _why_not(built: Built, splits: Sequence[Mapping[str, FillIn]], planned: bool) -> str:
    """Why nothing is measured though the recipe asks for it rightly; "" when it is."""
    if built.trainer.args.world_size > 1:
        return "several processes train, and each would have to wait for the others"
    if len(splits) < 2:
        return "there is only one split that fits"
    if built.box.cuda and not planned:
        return f"the memory of {built.box.name} is not known, so nobody can say what fits"
    return ""


def _write(built: Built, chosen: Candidate, candidates: Sequence[Candidate], updates: float) -> None:
    """Into the trainer's arguments, the recipe that later plans read, and the ledger's reasons."""
    why = _why_chosen(chosen, candidates, updates)
    values = {**chosen.values, BATCH: FillIn(chosen.batch, why)}
    write_split(built.trainer, values)
    built.recipe = with_values(built.recipe, values)
    if AGAIN in values and not values[AGAIN].value:  # TRL asks for gradients of the inputs where layers are computed again
        built.trainer.model.disable_input_require_grads()
    for key in OURS:
        for name in filter(None, (key, twin(key))):
            built.filled.pop(("training", name), None)
            if key in values:
                built.filled["training", name] = values[key]
    evaluation = "training", "per_device_eval_batch_size"
    if evaluation in built.filled:  # then it follows the training batch
        built.trainer.args.per_device_eval_batch_size = chosen.batch
        built.filled[evaluation] = FillIn(chosen.batch, built.filled[evaluation].why)


def _why_chosen(chosen: Candidate, candidates: Sequence[Candidate], updates: float) -> str:
    """ "measured: 0.41 s an update; 2 × 8 rows 0.53 s, 4 × 4 rows no time was left" """
    others = ", ".join(f"{one} {_result(one, updates)}" for one in candidates if one is not chosen)
    if chosen.seconds is not None:
        found = f"measured: {chosen.seconds / updates:.3g} s an update in {chosen}"
    else:
        found = f"{chosen} could not be measured ({chosen.why or 'not tried'})"
    return f"{found}; {others}" + ("" if chosen is candidates[0] else f"; the plan's choice was {candidates[0]}")


def _result(candidate: Candidate, updates: float) -> str:
    if candidate.seconds is not None:
        return f"{candidate.seconds / updates:.3g} s"
    return candidate.why or "not measured"


def _record(candidate: Candidate, updates: float) -> dict[str, Any]:
    """Of the `split` event; `seconds` of an update, None where it was not measured."""
    seconds = None if candidate.seconds is None else candidate.seconds / updates
    return {
        "rows": candidate.batch,
        "micro_batches": candidate.accumulation,
        "recomputed": candidate.recomputed,
        "seconds": seconds,
        "passes": len(candidate.passes),
        "why": candidate.why,
    }
