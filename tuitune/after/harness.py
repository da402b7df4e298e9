"""Public benchmarks through EleutherAI's lm-evaluation-harness, when it is installed; nothing of it is a dependency of tuitune."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tuitune.errors import UserError
from tuitune.text import printable

PACKAGE = "lm_eval"
BATCH = 8  # rows that the harness computes at a time


def installed() -> str | None:
    """The version that is there, or None."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def require() -> str:
    """The version; UserError with the line that installs it."""
    found = installed()
    if found is None:
        raise UserError("--harness needs EleutherAI's lm-evaluation-harness, which is not installed here: pip install lm_eval")
    return found


def measure(model: Any, tokenizer: Any, tasks: Sequence[str], rows: int | None) -> list[dict[str, Any]]:
    """What the harness says of a loaded model on `tasks` (names, or paths of YAML files): task, metric, value and standard error (None
    where it has none); at most `rows` rows a task, through the model's own chat template where it has one. UserError for a task that it
    does not know or data that it cannot get."""
    require()
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH)
    try:
        found = lm_eval.simple_evaluate(
            model=wrapped,
            tasks=list(tasks),
            limit=rows,
            apply_chat_template=bool(tokenizer.chat_template),
            log_samples=False,
            task_manager=_task_manager(),
        )
    except (ValueError, KeyError, OSError, ConnectionError) as error:
        reason = printable(str(error).strip().partition("\n")[0], limit=200)
        raise UserError(
            f"lm-evaluation-harness cannot run {printable(', '.join(tasks))}: {reason}; `lm-eval ls tasks` lists them"
        ) from error
    return list(_flat(found["results"]))


@cache
def _task_manager() -> Any:
    """Its table of thousands of tasks, which takes a minute to read: once for both sides."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _flat(results: dict[str, dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Its own words (`exact_match,strict-match`, `exact_match_stderr,strict-match`) as one row a metric."""
    for task, values in results.items():
        for name, value in values.items():
            metric, comma, kind = name.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{kind}")
            stderr = float(error) if isinstance(error, int | float) else None
            yield {"task": task, "metric": metric if kind == "none" else f"{metric} ({kind})", "value": float(value), "stderr": stderr}
