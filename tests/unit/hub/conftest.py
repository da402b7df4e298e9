"""A hub per test, gone afterwards."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.living_hub import LivingHub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Callable[..., LivingHub]]:
    """Starts a hub whose trainer plays the story that is named."""
    hubs: list[LivingHub] = []

    def start(story: str, **options: Any) -> LivingHub:
        hubs.append(LivingHub(tmp_path / "runs", story, **options))
        return hubs[-1]

    yield start
    for one in hubs:
        one.end()
