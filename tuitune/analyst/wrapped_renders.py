"""Notes every chat template that transformers renders: all go through one function, wrapped here (tests/contract/test_render_watch.py)."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from transformers import tokenization_utils_base as base

from tuitune.analyst.render_watch import RenderWatch


def watch_renders(watch: RenderWatch) -> None:
    """From now on every template that transformers renders in this process is noted in `watch`."""
    base.render_jinja_template = _watched(base.render_jinja_template, watch)


def _watched(render: Callable[..., Any], watch: RenderWatch) -> Callable[..., Any]:
    @wraps(render)
    def watched(*args: Any, **options: Any) -> Any:
        watch.begin()
        try:
            return render(*args, **options)
        finally:
            watch.end()

    return watched
