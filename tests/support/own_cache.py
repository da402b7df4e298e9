"""A cache of a test's own, in which the schema of the installed libraries is already: it takes seconds to make."""

from pathlib import Path

import pytest

from tuitune.files import cache_dir


def own_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Make tuitune's cache one below `folder`; what is written to it."""
    schemas = sorted(cache_dir().glob("schema-*.json"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    made = folder / "cache" / "tuitune"
    made.mkdir(parents=True)
    for file in schemas:
        (made / file.name).symlink_to(file)
    return made
