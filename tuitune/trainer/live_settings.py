"""What `set` can change while a run trains: learning rate, its schedule, the number of steps, how often it logs, saves and evaluates."""

import math
from dataclasses import dataclass
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from tuitune.trainer.kept import Progress
from tuitune.trainer.live_schedule import KINDS, LiveSchedule
from tuitune.trainer.orders import Refused

INTERVALS = ("logging_steps", "save_steps", "eval_steps")
SCHEDULES = ("constant", "linear", "cosine")
OF_THEIR_OWN = ("reduce_lr_on_plateau", "greedy")  # schedulers of transformers that are no LambdaLR and look at the loss
KEYS = ("learning_rate", "lr_scheduler", "max_steps", *INTERVALS)


@dataclass(frozen=True)
class Change:
    """What a setting was and is; the learning rate of the first parameter group."""

    old: Any
    new: Any


def live_scheduler(scheduler: Any, planned_steps: int) -> Any:
    """The same scheduler with a LiveSchedule for every parameter group, where it is one of those that transformers makes with LambdaLR."""
    if type(scheduler) is LambdaLR and not isinstance(scheduler.lr_lambdas[0], LiveSchedule):
        scheduler.lr_lambdas = [LiveSchedule(factor, planned_steps) for factor in scheduler.lr_lambdas]
    return scheduler


def capabilities(trainer: Any) -> list[dict[str, Any]]:
    """The keys that `set` will take in this run, with type, limits and the recipe's value; of a trainer that has not begun yet."""
    args, found = trainer.args, list[dict[str, Any]]()
    if _plain(args.lr_scheduler_type) not in OF_THEIR_OWN and not trainer.is_deepspeed_enabled:
        found.append({"name": "learning_rate", "type": "float", "min": 0, "max": None, "kinds": list(KINDS), "value": args.learning_rate})
        found.append({"name": "lr_scheduler", "type": "choice", "choices": list(SCHEDULES), "value": _plain(args.lr_scheduler_type)})
    found.append({"name": "max_steps", "type": "int", "min": 1, "max": None, "value": args.max_steps if args.max_steps > 0 else None})
    for name in INTERVALS:
        if name != "eval_steps" or trainer.eval_dataset is not None:
            found.append({"name": name, "type": "int", "min": 1, "max": None, "value": getattr(args, name)})
    return found


def change(trainer: Any, progress: Progress, arguments: dict[str, Any]) -> Change:
    """Set `arguments["key"]` to `arguments["value"]` at the present boundary. Refused with the reason when that cannot be."""
    key, value = arguments.get("key"), arguments.get("value")
    if key == "learning_rate":
        return _set_rate(trainer, _number(key, value), arguments)
    if key == "lr_scheduler":
        if value not in SCHEDULES:
            raise Refused(f"lr_scheduler is {', '.join(SCHEDULES[:-1])} or {SCHEDULES[-1]}, not {value!r}")
        old = trainer.lr_scheduler.get_last_lr()[0]
        return _set_rate(trainer, old, {"kind": "hold" if value == "constant" else value})
    if key == "max_steps":
        return _set_max_steps(trainer, progress, _whole(key, value))
    if key in INTERVALS:
        return _set_interval(trainer, progress, str(key), _whole(key, value))
    raise Refused(f"{key!r} cannot be set while it trains; {', '.join(KEYS)} can")


def _set_rate(trainer: Any, value: float, arguments: dict[str, Any]) -> Change:
    """The rate of the next update; the groups keep their ratio to each other."""
    scheduler, kind = trainer.lr_scheduler, arguments.get("kind") or "scale"
    if kind not in KINDS:
        raise Refused(f"kind is {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {kind!r}")
    schedules = live_schedules(trainer)
    if not schedules:
        raise Refused(f"this run's learning rate is in the hands of {type(scheduler).__name__}, which takes no value from outside")
    if not scheduler.base_lrs[0]:
        raise Refused("training.learning_rate of the recipe is 0, and everything is set in relation to it; start anew with another")
    step, left = scheduler.last_epoch, max(1, trainer.state.max_steps - trainer.state.global_step)
    old, factor = scheduler.get_last_lr()[0], value / scheduler.base_lrs[0]
    steps = arguments.get("steps")
    end = _number("end", arguments.get("end") or 0) / scheduler.base_lrs[0]
    for schedule in schedules:
        try:
            if kind == "scale":
                schedule.scale(step, factor)
            elif kind == "hold":
                schedule.hold(step, factor)
            else:
                schedule.descend(step, kind, factor, end, left if steps is None else _whole("steps", steps), whole=steps is None)
        except ValueError as error:
            raise Refused(str(error)) from None
    for group, base, schedule in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, schedules):
        rate = base * schedule(step)
        if hasattr(group["lr"], "fill_"):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]  # what the next log reads
    return Change(old, float(scheduler.get_last_lr()[0]))


def _set_max_steps(trainer: Any, progress: Progress, value: int) -> Change:
    state, old = trainer.state, trainer.state.max_steps
    if value <= state.global_step:
        raise Refused(f"max_steps: step {state.global_step} is done already; {state.global_step + 1} or more, or stop the run")
    for schedule in live_schedules(trainer):
        schedule.stretch(trainer.lr_scheduler.last_epoch, value - state.global_step)
    state.max_steps = progress.max_steps = value
    trainer.control.should_training_stop = False  # it may have been the last step until now
    return Change(old, value)


def _set_interval(trainer: Any, progress: Progress, name: str, value: int) -> Change:
    """On the state, where transformers looks, and the strategy that looks at it at all."""
    if name == "eval_steps" and trainer.eval_dataset is None:
        raise Refused("the recipe names no evaluation data (dataset.eval)")
    kind = name.removesuffix("_steps")
    strategy = _plain(getattr(trainer.args, f"{kind}_strategy"))
    old = getattr(trainer.state, name) if strategy == "steps" else strategy
    setattr(trainer.state, name, value)
    by_steps(trainer.args, kind)
    progress.strategies[kind] = "steps"
    return Change(old, value)


def by_steps(args: Any, kind: str) -> None:
    """Have logging, save or eval go by steps."""
    field = f"{kind}_strategy"
    setattr(args, field, type(getattr(args, field))("steps"))


def live_schedules(trainer: Any) -> list[LiveSchedule]:
    return [one for one in getattr(trainer.lr_scheduler, "lr_lambdas", []) if isinstance(one, LiveSchedule)]


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _number(name: object, value: object) -> float:
    """A rate; text as the command line sends it counts too."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise Refused(f"{name} takes a number that is 0 or more, not {value!r}")
    return number


def _whole(name: object, value: object) -> int:
    number = _number(name, value)
    if number != int(number) or number < 1:
        raise Refused(f"{name} takes a whole number from 1 on, not {value!r}")
    return int(number)
